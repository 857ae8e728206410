"""`sedd cluster check` where there is no SLURM; on a real one: tests/slurm/test_cluster_init.py."""

import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer

from tests.command_line import sedd


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of runs on a machine on which no command of SLURM is found."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    for name in [name for name in os.environ if name.startswith("SLURM")]:
        monkeypatch.delenv(name)
    return tmp_path / "runs"


def test_a_profile_that_could_not_be_tested_has_not_passed(runs: Path, tmp_path: Path) -> None:
    profile = tmp_path / "here.yaml"
    profile.write_text("executor: slurm\npartition: gpu\n")
    done = sedd("cluster", "check", profile, "--test-job", runs=runs)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("NOT TESTED: SLURM does not answer here (")
    assert ".store" not in done.stdout, "no file is named that nobody has given"
    document = json.loads(sedd("cluster", "check", profile, "--json", runs=runs).stdout)
    assert document["ready"] is False
    assert {f["status"] for f in document["findings"] if f["check"] == "partition"} == {"UNKNOWN"}
    assert not runs.exists()


def test_a_profile_without_slurm_ends_with_a_verdict_too(runs: Path, tmp_path: Path) -> None:
    profile = tmp_path / "local.yaml"
    profile.write_text("executor: local\n")
    done = sedd("cluster", "check", profile, runs=runs)
    *_, before, last = done.stdout.splitlines()
    assert (done.returncode, last.partition(" (")[0]) == (0, "PROFILE FITS THIS SITE")
    assert "no spec was checked" in before


def test_a_test_job_that_was_not_run_is_told(monkeypatch, capsys, runs: Path, tmp_path: Path) -> None:
    import sedd.cli.cluster as module
    from sedd.preflight.finding import Finding, Status

    profile = tmp_path / "site.yaml"
    profile.write_text("executor: slurm\npartition: gpu\n")
    found = Finding(check="torch_wheel", status=Status.FAIL, saw="cpu wheel", hint="another")
    monkeypatch.setattr(module, "_check_login", lambda *_, **__: (found,))
    monkeypatch.setattr(module, "_has_answered", lambda answers: True)
    with pytest.raises(typer.Exit):
        module.check(profile, test_job=True, gpus=1, as_json=False)
    *_, job, without, memory, last = capsys.readouterr().out.splitlines()
    assert without == "if only the GPU is missing: --gpus 0 tests a job without one"
    assert job == "test job: not run, since what is above would stop it"
    assert memory.startswith("gpu.memory is not set")
    assert last == "NOT READY (1 FAIL)"


@pytest.mark.parametrize(
    ("here", "typed", "asked"),
    [({"v100": 4}, None, 1), ({}, None, 0), ({}, 2, 2), ({"v100": 4}, 0, 0), (None, None, 1)],
)
def test_the_small_job_asks_for_a_gpu_where_the_partition_has_any(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    runs: Path,
    tmp_path: Path,
    here: dict[str, int] | None,
    typed: int | None,
    asked: int,
) -> None:
    """A cluster without GPUs was told that its torch lacks CUDA."""
    import sedd.cli.cluster as module
    from sedd.preflight import context
    from sedd.preflight.checks.node_resources import CHECK as NODE_RESOURCES

    elsewhere = replace(NODE_RESOURCES.passing.present[0], partitions=("other",))
    nodes = [] if here is None else [replace(elsewhere, partitions=("cpu",), gpus=here)]
    partition = SimpleNamespace(name="cpu", is_default=True)
    monkeypatch.setattr(context, "query_partitions", lambda timeout_s: [partition])
    monkeypatch.setattr(context, "query_nodes", lambda timeout_s: [elsewhere, *nodes])
    monkeypatch.setattr(module, "_has_answered", lambda answers: True)
    seen: list[int] = []
    monkeypatch.setattr(module, "_check_login", lambda site, gpus, **_: seen.append(gpus) or ())
    profile = tmp_path / "site.yaml"
    profile.write_text("executor: slurm\n")
    module.check(profile, test_job=False, gpus=typed, as_json=False)
    assert seen == [asked]
    told = "the partition's nodes have no GPUs: specs need resources.gpus_per_node: 0 here"
    assert (told in capsys.readouterr().out) == (here == {})
