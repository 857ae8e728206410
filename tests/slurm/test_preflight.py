"""Preflight's login side against a real SLURM: what it accepts, what it refuses, and its silence."""

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sedd.cluster.profile import SlurmProfile
from sedd.errors import ClusterError
from sedd.preflight.finding import Finding, Status
from sedd.preflight.run_checks import check_login
from sedd.spec.experiment import Experiment
from sedd.spec.load import Request
from tests.slurm.conftest import DevCluster, script

pytestmark = pytest.mark.slurm

OF_SLURM = {"partition", "node_resources", "sbatch_test", "signal_plan", "account", "array"}


def experiment_of(spec: dict[str, Any]) -> Experiment:
    resources = {"gpus_per_node": 2, "cpus_per_process": 1, "memory": "1GiB", "walltime": "30m"} | (spec)
    gpus = resources["gpus_per_node"]
    training = {"steps": 10, "residues_per_gpu": 512, "residues_per_step": 512 * gpus}
    return Experiment.model_validate(
        {"name": "x", "data": {"store": "/none"}, "training": training, "resources": resources}
    )


def look(
    tmp_path: Path, spec: dict[str, Any] | None = None, runs: int = 1, **site: Any
) -> dict[str, Finding]:
    """Findings about SLURM, of a run or of a sweep over this many seeds."""
    one = experiment_of(spec or {})
    experiments = tuple(one.model_copy(update={"seed": seed}) for seed in range(runs))
    points = tuple({"seed": seed} for seed in range(runs))
    request = Request(experiments=experiments, points=points, parallel=None)
    profile = SlurmProfile.model_validate(
        {"executor": "slurm", "partition": "requeue", "gpu": {"type": "v100"}} | site
    )
    return {f.check: f for f in check_login(request, profile, runs=tmp_path) if f.check in OF_SLURM}


def test_a_job_that_fits_is_accepted(devcluster: DevCluster, tmp_path: Path) -> None:
    found = look(tmp_path)
    assert {f.status for f in found.values()} == {Status.OK}, found
    assert found.keys() == OF_SLURM - {"account", "array"}


@pytest.mark.parametrize(
    ("spec", "site", "check", "saw"),
    [
        ({}, {"partition": "nope"}, "partition", "there is no partition nope"),
        ({}, {"partition": "nope"}, "sbatch_test", "invalid partition"),
        ({"walltime": "90d"}, {}, "partition", "is longer than requeue's"),
        ({"gpus_per_node": 8}, {}, "node_resources", "0 of 4 nodes have 8 v100 GPUs"),
        ({"gpus_per_node": 8}, {}, "sbatch_test", "configuration is not available"),
        ({}, {"gpu": {"type": "a100"}}, "node_resources", "0 of 4 nodes have 2 a100 GPUs"),
        ({}, {"constraint": "nvlink"}, "sbatch_test", "Invalid feature"),
        ({}, {"sbatch": {"reservation": "nobodys"}}, "sbatch_test", "reservation"),
    ],
)
def test_what_slurm_would_refuse_fails(
    devcluster: DevCluster, tmp_path: Path, spec: dict[str, Any], site: dict[str, Any], check: str, saw: str
) -> None:
    finding = look(tmp_path, spec, **site)[check]
    assert finding.status is Status.FAIL
    assert saw.lower() in finding.saw.lower()
    assert finding.hint


@pytest.mark.parametrize(
    ("partition", "words"),
    [
        ("requeue", "SIGTERM, SIGKILL 20s later (GraceTime): checkpoint, SLURM requeues"),
        ("nograce", "SIGTERM, SIGKILL 10s later (KillWait, no GraceTime): checkpoint, SLURM requeues"),
        ("cancel", "SIGTERM, SIGKILL 20s later (GraceTime): checkpoint, then the run requeues itself"),
        ("urgent", "no preemption"),
    ],
)
def test_signal_plan_of_each_kind_of_partition(
    devcluster: DevCluster, tmp_path: Path, partition: str, words: str
) -> None:
    assert words in look(tmp_path, partition=partition)["signal_plan"].saw


def test_a_silent_controller_is_unknown_within_5_seconds(devcluster: DevCluster, tmp_path: Path) -> None:
    controller = int((devcluster.folder / "run" / "slurmctld.pid").read_text())
    os.kill(controller, signal.SIGSTOP)
    try:
        began = time.monotonic()
        found = look(tmp_path)
        assert time.monotonic() - began < 5
    finally:
        os.kill(controller, signal.SIGCONT)
    assert {f.status for f in found.values()} == {Status.UNKNOWN}
    assert all("did not answer" in f.saw for f in found.values())


@pytest.fixture
def strict_accounts(devcluster: DevCluster) -> Iterator[DevCluster]:
    """A site that refuses jobs that are charged to somebody else's account."""
    configuration = devcluster.folder / "etc" / "slurm.conf"
    before = configuration.read_text()
    configuration.write_text(f"{before}AccountingStorageEnforce=associations\n")
    restart_controller(devcluster)
    yield devcluster
    configuration.write_text(before)
    restart_controller(devcluster)


def restart_controller(devcluster: DevCluster) -> None:
    """slurmctld reads what it enforces only when it starts."""
    pid = int((devcluster.folder / "run" / "slurmctld.pid").read_text())
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 20
    while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert script("up.sh", devcluster.folder).returncode == 0


def test_a_wrong_account_fails_where_slurm_refuses_it(strict_accounts: DevCluster, tmp_path: Path) -> None:
    found = look(tmp_path, account="nobodys")
    assert found["account"].status is Status.FAIL
    assert found["account"].saw == "account nobodys is not yours: SLURM refuses the job"
    assert "yours: root" in (found["account"].hint or "")
    assert found["sbatch_test"].status is Status.FAIL
    assert "invalid account" in found["sbatch_test"].saw.lower()
    mine = look(tmp_path, account="root")
    assert {mine["account"].status, mine["sbatch_test"].status} == {Status.OK}


def test_where_slurm_ignores_accounts_it_is_said(devcluster: DevCluster, tmp_path: Path) -> None:
    found = look(tmp_path, account="nobodys")
    assert found["sbatch_test"].status is Status.OK  # this is what a user would be misled by
    assert found["account"].status is Status.WARN
    assert "SLURM ignores that here" in found["account"].saw


@pytest.mark.parametrize(("runs", "words"), [(3, "3 runs in 1 array"), (1500, "1,500 runs in 2 arrays")])
def test_a_sweep_fits_the_sites_arrays_or_is_split(
    devcluster: DevCluster, tmp_path: Path, runs: int, words: str
) -> None:
    found = look(tmp_path, runs=runs)
    assert found["array"].status is Status.OK
    assert words in found["array"].saw
    assert "(MaxArraySize=1001)" in found["array"].saw
    assert found["sbatch_test"].status is Status.OK


def test_an_array_larger_than_the_sites_is_refused_by_slurm_itself(devcluster: DevCluster) -> None:
    from sedd.cluster.control import sbatch_test_only

    with pytest.raises(ClusterError, match="Invalid job array"):
        sbatch_test_only("#!/bin/sh\n#SBATCH --array=0-1001\ntrue\n", timeout_s=10)
    sbatch_test_only("#!/bin/sh\n#SBATCH --array=0-1000\ntrue\n", timeout_s=10)


def test_a_sweep_fails_at_the_point_that_slurm_refuses(devcluster: DevCluster, tmp_path: Path) -> None:
    small = experiment_of({"walltime": "30m"})
    long = experiment_of({"walltime": "90d"})
    points = ({"resources.walltime": "30m"}, {"resources.walltime": "90d"})
    request = Request(experiments=(small, long), points=points, parallel=None)
    profile = SlurmProfile.model_validate({"executor": "slurm", "partition": "requeue"})
    began = time.monotonic()
    found = {f.check: f for f in check_login(request, profile, runs=tmp_path)}
    assert time.monotonic() - began < 5
    assert found["partition"].status is Status.FAIL
    assert "is longer than requeue's 2d (at resources.walltime=90d)" in found["partition"].saw
