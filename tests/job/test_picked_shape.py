"""A run with a range of GPUs has the ranks of the job that it finds itself in; others keep their spec."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NoReturn

import pytest

from sedd.cluster.profile import SlurmProfile
from sedd.errors import SpecError
from sedd.job.entry import make_task
from sedd.job.environment import TaskEnvironment, read_slurm_environment
from sedd.job.picked_shape import in_shape_of_job, next_shape, record_shape
from sedd.launch.make_runs import make_runs
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir
from sedd.spec.load import load_resolved
from tests.launch.conftest import order_for, small_experiment, write_events
from tests.launch.test_submit import NOW

STEP = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "2"}
RANGE: dict[str, Any] = {"gpus": "1-8", "gpus_per_node": 1, "walltime": "1h"}


def in_job(nodes: int, each: int) -> TaskEnvironment:
    variables = {"SLURM_JOB_NUM_NODES": str(nodes), "SLURM_NTASKS_PER_NODE": str(each)}
    return read_slurm_environment(STEP | variables)


def test_a_range_takes_the_shape_of_the_job() -> None:
    asked = small_experiment(resources=RANGE)
    found = in_shape_of_job(asked, in_job(2, 2))
    assert (found.resources.nodes, found.resources.gpus_per_node, found.resources.ranks) == (2, 2, 4)
    assert found.hash() == asked.hash()


def test_a_shape_that_is_given_stays_whatever_the_job_has() -> None:
    fixed = small_experiment(resources={"gpus_per_node": 1, "walltime": "1h"})
    assert in_shape_of_job(fixed, in_job(2, 2)) is fixed
    ranged = small_experiment(resources=RANGE)
    assert in_shape_of_job(ranged, in_job(1, 1)) is ranged
    assert in_shape_of_job(ranged, read_slurm_environment({"SLURM_JOB_ID": "7"})) is ranged


def test_a_job_that_the_training_cannot_have_is_refused_in_a_line() -> None:
    with pytest.raises(SpecError, match=r"1 x 3 GPUs: .*cannot be shared equally"):
        in_shape_of_job(small_experiment(resources=RANGE), in_job(1, 3))


def ranged_run(tmp_path: Path) -> RunDir:
    asked = small_experiment(resources=RANGE | {"repick": True})
    order = order_for(asked, runs=tmp_path / "runs", profile=SlurmProfile(executor="slurm"))
    return make_runs(order, now=NOW, made=[]).runs[0]


def test_whatever_goes_wrong_in_a_choice_the_next_job_has_this_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where the files of an earlier run are damaged: that run's harm must not become this one's."""

    def fail(*args: object, **more: object) -> NoReturn:
        raise ValueError("invalid literal for int()")

    monkeypatch.setattr("sedd.soonest.choose.choose", fail)
    task = make_task(ranged_run(tmp_path), read_slurm_environment({"SLURM_JOB_ID": "7"}))
    assert next_shape(task, SlurmProfile(executor="slurm")) is task.experiment


def test_a_start_that_comes_late_leaves_the_shape_of_the_job_that_goes_on(tmp_path: Path) -> None:
    """A node that was lost, and is back, starts its old job of two GPUs; the run trains on one by now."""
    run = ranged_run(tmp_path)
    write_events(
        run,
        {"event": "submitted", "job_id": "7", "executor": "slurm"},
        {"event": "submitted", "job_id": "8", "executor": "slurm", "continues": "7"},
        {"event": "attempt_started", "attempt": 1, "job_id": "8", "restarts": 0, "host": "v100-2"},
    )
    before = run.spec.read_bytes(), run.events.read_bytes()
    late = STEP | {"SUBMITIT_EXECUTOR": "slurm", "SLURM_JOB_NUM_NODES": "1", "PYTHONPATH": str(run.code)}
    command = [sys.executable, "-m", "sedd.job.entry", str(run.path)]
    done = subprocess.run(
        command, env=os.environ | late | {"PYTHONSAFEPATH": "1"}, capture_output=True, text=True, check=False
    )
    assert (run.spec.read_bytes(), run.events.read_bytes()) == before, done.stdout
    assert (done.returncode, "is late" in done.stdout) == (0, True), done.stdout + done.stderr


def test_a_shape_is_taken_over_by_a_job_that_no_event_names_yet(tmp_path: Path) -> None:
    """Whoever submitted it was killed after sbatch, before the event."""
    run = ranged_run(tmp_path)
    record_shape(make_task(run, in_job(1, 2)))
    assert load_resolved(run.spec).resources.gpus_per_node == 2
    assert [e.event for e in read_events(run.events)] == ["reshaped"]
