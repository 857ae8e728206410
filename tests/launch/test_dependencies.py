"""`--after`: what a new run may wait for, and that it does not start on another's failure."""

import os
import stat
from pathlib import Path

import pytest

from sedd.errors import RunError
from sedd.launch.dependencies import dependency_on, require_completed
from sedd.launch.make_runs import make_runs
from sedd.launch.submit import render
from sedd.launch.submit_local import submit_local
from sedd.rundir.layout import RunDir, read_manifest, write_manifest
from tests.launch.conftest import LocalRuns, order_for, small_experiment, story, wait_for_end, write_events
from tests.launch.test_submit import NOW, SLURM

STARTED = {"event": "attempt_started", "attempt": 1}


@pytest.fixture
def scontrol(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SLURM knows job 7, which runs, and of array 12 the tasks 0, which runs, and 1, which has failed."""
    script = """#!/bin/bash
rest="Reason=None SubmitTime=1795305600"
case "$*" in
  "show job 7") echo "JobId=7 JobName=a"; echo "   JobState=RUNNING $rest" ;;
  "show job 12") echo "JobId=12 ArrayJobId=12 ArrayTaskId=0 JobName=a"; echo "   JobState=RUNNING $rest"; echo
                 echo "JobId=13 ArrayJobId=12 ArrayTaskId=1 JobName=a"; echo "   JobState=FAILED $rest" ;;
  *) echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1 ;;
esac
"""
    folder = tmp_path / "slurm commands"
    folder.mkdir()
    path = folder / "scontrol"
    path.write_text(script)
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def make(tmp_path: Path, *events: dict[str, object], job_id: str = "7", executor: str = "slurm") -> RunDir:
    number = len(list(tmp_path.glob("runs/*/*")))
    run = make_runs(order_for(small_experiment(seed=number), runs=tmp_path / "runs"), now=NOW, made=[]).runs[
        0
    ]
    write_events(run, {"event": "submitted", "job_id": job_id, "executor": executor}, *events)
    return run


def test_a_run_waits_for_all_that_are_under_way(scontrol: None, tmp_path: Path) -> None:
    runs = [
        make(tmp_path, job_id="7"),
        make(tmp_path, STARTED, {"event": "requeued", "attempt": 1}, job_id="12_0"),
        make(tmp_path, STARTED, {"event": "completed", "attempt": 1}, job_id="3"),
    ]
    assert dependency_on(runs, executor="slurm") == "afterok:7:12_0"
    assert dependency_on(runs[2:], executor="slurm") is None
    assert dependency_on((), executor="local") is None


@pytest.mark.parametrize(
    ("events", "job_id"),
    [
        ([{"event": "cancelled"}], "7"),
        ([STARTED, {"event": "gave_up", "attempt": 1}], "7"),
        ([STARTED], "12_1"),  # SLURM says that it failed, without a last word of its own
        ([STARTED], "99"),  # SLURM has forgotten it, and would start what depends on it
    ],
)
def test_what_will_not_complete_by_itself_is_refused(
    scontrol: None, tmp_path: Path, events: list[dict[str, object]], job_id: str
) -> None:
    run = make(tmp_path, *events, job_id=job_id)
    with pytest.raises(RunError, match=run.id) as refusal:
        dependency_on([run], executor="slurm")
    assert f"sedd requeue {run.id}" in (refusal.value.hint or "")


@pytest.mark.parametrize(("executor", "mine"), [("local", "slurm"), ("slurm", "local"), ("local", "local")])
def test_only_slurm_waits_and_only_for_slurms_own(tmp_path: Path, executor: str, mine: str) -> None:
    run = make(tmp_path, STARTED, executor=executor)
    with pytest.raises(RunError, match="waits for it"):
        dependency_on([run], executor=mine)
    done = make(tmp_path, STARTED, {"event": "completed", "attempt": 1}, executor=executor)
    assert dependency_on([done], executor=mine) is None


def test_the_wait_is_in_the_batch_script_and_in_the_manifest(scontrol: None, tmp_path: Path) -> None:
    earlier = make(tmp_path)
    order = order_for(small_experiment(), runs=tmp_path / "later", profile=SLURM, after=[earlier])
    assert "\n#SBATCH --dependency=afterok:7\n" in render(order, now=NOW)
    (run,) = make_runs(order, now=NOW, made=[]).runs
    assert read_manifest(run)["after"] == [str(earlier.path)]


def test_a_job_that_starts_all_the_same_gives_its_run_up(local: LocalRuns, tmp_path: Path) -> None:
    """SLURM takes a job that it has forgotten for a success; the job entry reads the run itself."""
    cancelled = make(tmp_path, {"event": "cancelled"})
    (run,) = local.make(small_experiment())
    write_manifest(run, read_manifest(run) | {"after": [str(cancelled.path)]})
    with pytest.raises(RunError, match=cancelled.id):
        require_completed(run)
    submit_local([run])
    assert wait_for_end(run).get("detail") == (
        f"run small/{cancelled.id} had to complete before this one, and is cancelled or given up"
    )
    assert "attempt_started" in story(run)


def test_a_run_that_completed_or_whose_folder_is_gone_holds_nothing_up(tmp_path: Path) -> None:
    done = make(tmp_path, STARTED, {"event": "completed", "attempt": 1})
    later = make(tmp_path)
    write_manifest(later, read_manifest(later) | {"after": [str(done.path), "/nowhere/small/1"]})
    require_completed(later)
