"""The job that goes on where a requeued one would pause, and the points of a sweep that must stay in their array."""

import os
from pathlib import Path

import pytest

from sedd.cluster.identity import own_job
from sedd.cluster.profile import SlurmProfile
from sedd.job.attempt import Task
from sedd.job.continuation import skip_pause
from sedd.job.entry import make_task
from sedd.job.environment import read_slurm_environment
from sedd.job.next_attempt import ensure_next_attempt
from sedd.launch.make_runs import make_runs
from sedd.rundir.attempts import Cause
from sedd.rundir.events import read_events
from sedd.rundir.layout import read_manifest, write_manifest
from tests.launch.conftest import order_for, small_experiment, write_events
from tests.launch.test_submit import NOW

SCONTROL = """#!/bin/bash
[ "$2" = config ] && exit
[ "$2" = hostnames ] && echo "$3" | tr , '\\n' && exit
[ "$3" = node ] && cat '{folder}/nodes' && exit
[ "$1" = update ] && echo "$*" >> '{folder}/updates' && exit
[ "$1" = requeue ] && touch '{folder}/requeued' && exit
[ "$3" = 120_3 ] && echo "JobId=123 ArrayJobId=120 ArrayTaskId=3 JobState=COMPLETING Restarts=1 Partition=gpu" && exit
echo "JobId=200 JobState=PENDING Restarts=0 SubmitTime=2026-11-22T12:00:00"
echo "   Comment=$(grep -o 'sedd token=[0-9a-f]*' '{folder}/script')"
"""
SBATCH = """#!/bin/bash
cp "$1" '{folder}/script'
echo Submitted batch job 200
"""
SQUEUE = """#!/bin/bash
case "$*" in *%E*) cat '{folder}/waiting';; esac
"""
SCANCEL = """#!/bin/bash
echo "$*" >> '{folder}/cancelled'
"""
NODES = (("a", "gpu"), ("b", "cpu,gpu"), ("c", "cpu"))
POINT = {"SLURM_JOB_ID": "123", "SLURM_ARRAY_JOB_ID": "120", "SLURM_ARRAY_TASK_ID": "3"}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with SLURM's commands: array task 120_3 is being requeued, and each submission is job 200."""
    folder = tmp_path / "bin"
    folder.mkdir()
    commands = {"scontrol": SCONTROL, "sbatch": SBATCH, "squeue": SQUEUE, "scancel": SCANCEL}
    for name, text in commands.items():
        (folder / name).write_text(text.replace("{folder}", str(folder)))
        (folder / name).chmod(0o755)
    (folder / "waiting").touch()
    (folder / "nodes").write_text("".join(f"NodeName={n} State=IDLE Partitions={p}\n" for n, p in NODES))
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def point(tmp_path: Path, *, parallel: int | None) -> Task:
    """A run that is a point of a sweep of which this many train at a time."""
    order = order_for(small_experiment(), runs=tmp_path / "runs", profile=SlurmProfile(executor="slurm"))
    (run,) = make_runs(order, now=NOW, made=[]).runs
    write_manifest(run, read_manifest(run) | {"parallel": parallel})
    write_events(run, {"event": "submitted", "job_id": "120_3", "executor": "slurm"})
    return make_task(run, read_slurm_environment(POINT))


def leave(task: Task) -> list[str]:
    """The jobs of the run, after its point was to skip the pause."""
    skip_pause(task, own_job("120_3"), read_events(task.run.events), ())
    return [e.get("job_id") for e in read_events(task.run.events) if e.event == "submitted"]


def test_a_point_of_a_sweep_without_a_limit_goes_on_in_a_job_of_its_own(tmp_path: Path, slurm: Path):
    task = point(tmp_path, parallel=None)
    assert leave(task) == ["120_3", "200"]
    assert "--dependency=afterany:120_3" in (slurm / "script").read_text()
    assert (slurm / "cancelled").read_text().split()[-1] == "120_3", "the point alone, not its array"


def test_a_point_stays_where_so_many_train_at_a_time(tmp_path: Path, slurm: Path):
    assert leave(point(tmp_path, parallel=4)) == ["120_3"]
    assert not (slurm / "cancelled").exists()


def test_a_point_stays_where_somebody_waits_for_the_success_of_its_array(tmp_path: Path, slurm: Path):
    (slurm / "waiting").write_text("300|afterok:120_*(unfulfilled)|mine\n")
    assert leave(point(tmp_path, parallel=None)) == ["120_3"]
    assert not (slurm / "cancelled").exists()


@pytest.mark.parametrize(
    ("at_fault", "follows"),
    [(("a",), True), (("c", "a"), True), (("a", "b"), False), (("a", "b", "c"), False)],
)
def test_after_faults_of_all_nodes_of_its_partition_a_run_is_given_up(
    tmp_path: Path, slurm: Path, at_fault: tuple[str, ...], follows: bool
):
    """SLURM would take the requeue, and let the job wait for ever (BadConstraints)."""
    task = point(tmp_path, parallel=4)
    events = read_events(task.run.events)
    how = {"attempt": 1, "cause": Cause.NODE_FAULT}
    assert ensure_next_attempt(task, events, **how, avoid=at_fault) is follows
    gave_up = [e.get("detail") for e in read_events(task.run.events) if e.event == "gave_up"]
    assert gave_up == (
        [] if follows else [f"too few nodes are left for another attempt without {', '.join(at_fault)}"]
    )
    assert (slurm / "updates").exists() is follows


def test_nodes_that_are_merely_slow_are_better_than_none(tmp_path: Path, slurm: Path):
    task = point(tmp_path, parallel=4)
    how = {"attempt": 1, "cause": Cause.PREEMPTED, "avoid": ("a", "b")}
    assert ensure_next_attempt(task, read_events(task.run.events), **how)
    assert not (slurm / "updates").exists()
