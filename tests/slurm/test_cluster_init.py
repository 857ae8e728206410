"""`sedd cluster init` and `check` on the dev cluster: the profile that one writes passes the other."""

import json
from pathlib import Path

import pytest

from tests.command_line import sedd
from tests.slurm.conftest import DevCluster

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]


def test_a_proposed_profile_passes_its_check_and_runs_a_job(
    devcluster: DevCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEDD_RUNS", str(tmp_path / "runs"))
    written = tmp_path / "here.yaml"
    assert sedd("cluster", "init", "-o", written).returncode == 0
    assert "# The longest time limit in partition 'requeue'." in written.read_text()
    again = sedd("cluster", "init", "-o", written)
    assert (again.returncode, "already exists" in again.stderr) == (2, True)
    # The cluster's cards are empty files, so the job itself runs on CPUs.
    first = sedd("cluster", "check", written)
    assert (first.returncode, first.stdout.splitlines()[-1][:22]) == (0, "PROFILE FITS THIS SITE")
    checked = sedd("cluster", "check", written, "--gpus", "0", "--test-job", "--json")
    document = json.loads(checked.stdout)
    assert (checked.returncode, document["test_job"]["outcome"]) == (0, "completed"), checked.stderr
    assert sedd("status").stdout.count("cluster-check") == 1


def test_a_profile_with_wrong_names_fails_its_check(devcluster: DevCluster, tmp_path: Path) -> None:
    for line in ("partition: reqeue", "gpu: {type: p100}", "constraint: nowhere", "exclude: node99"):
        wrong = tmp_path / "wrong.yaml"
        wrong.write_text(f"executor: slurm\n{line}\n")
        assert sedd("cluster", "check", wrong).returncode == 1, line
