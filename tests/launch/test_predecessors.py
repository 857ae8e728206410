"""What a new run may wait for, and that it does not start on another's failure, or before it is its turn."""

import os
import stat
import time
from pathlib import Path

import pytest

from sedd.errors import RunError
from sedd.launch.cancel import cancel
from sedd.launch.local_processes import find_members
from sedd.launch.make_runs import make_runs
from sedd.launch.predecessors import Needs, Start, dependency_on, judge_needs, read_needs
from sedd.launch.submit import render
from sedd.launch.submit_local import submit_local
from sedd.rundir.attempts import is_left_out
from sedd.rundir.events import read_events
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
    assert dependency_on(Needs(completed=tuple(runs)), executor="slurm") == "afterok:7:12_0"
    assert dependency_on(Needs(completed=tuple(runs[2:])), executor="slurm") is None
    assert dependency_on(Needs(), executor="local") is None


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
    scontrol: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    events: list[dict[str, object]],
    job_id: str,
) -> None:
    run = make(tmp_path, *events, job_id=job_id)
    for runs, typed in ((tmp_path / "runs", run.id), (tmp_path / "others", run.path)):
        monkeypatch.setenv("SEDD_RUNS", str(runs))
        with pytest.raises(RunError, match=run.id) as refusal:
            dependency_on(Needs(completed=(run,)), executor="slurm")
        assert f"sedd requeue {typed} " in (refusal.value.hint or "")


@pytest.mark.parametrize(("executor", "mine"), [("local", "slurm"), ("slurm", "local")])
def test_slurm_and_this_machine_do_not_wait_for_each_other(tmp_path: Path, executor: str, mine: str) -> None:
    run = make(tmp_path, STARTED, executor=executor)
    with pytest.raises(RunError, match="can wait for it"):
        dependency_on(Needs(completed=(run,)), executor=mine)
    done = make(tmp_path, STARTED, {"event": "completed", "attempt": 1}, executor=executor)
    assert dependency_on(Needs(completed=(done,)), executor=mine) is None


def test_without_slurm_the_job_entry_waits(tmp_path: Path) -> None:
    run = make(tmp_path, STARTED, executor="local")
    assert dependency_on(Needs(completed=(run,), ended=(run,), failed=(run,)), executor="local") is None


def test_a_wait_for_an_end_is_one_for_any_end_and_over_when_the_run_is(
    scontrol: None, tmp_path: Path
) -> None:
    runs, gave_up = make(tmp_path, STARTED, job_id="7"), {"event": "gave_up", "attempt": 1}
    over = make(tmp_path, STARTED, gave_up, job_id="12_1")
    done = make(tmp_path, STARTED, {"event": "completed", "attempt": 1}, job_id="3")
    assert dependency_on(Needs(ended=(runs, over, done)), executor="slurm") == "afterany:7"
    assert dependency_on(Needs(failed=(over, done)), executor="slurm") is None
    both = Needs(completed=(runs,), failed=(make(tmp_path, STARTED, job_id="12_0"),))
    assert dependency_on(both, executor="slurm") == "afterok:7,afterany:12_0"


COMPLETED, GAVE_UP = {"event": "completed", "attempt": 1}, {"event": "gave_up", "attempt": 1}


@pytest.mark.parametrize(
    ("kind", "events", "start"),
    [
        ("completed", [COMPLETED], Start.NOW),
        ("completed", [GAVE_UP], Start.LATER),  # `sedd requeue` may still let it complete
        ("completed", [], Start.LATER),
        ("ended", [COMPLETED], Start.NOW),
        ("ended", [GAVE_UP], Start.NOW),
        ("ended", [], Start.LATER),
        ("failed", [GAVE_UP], Start.NOW),
        ("failed", [COMPLETED], Start.NEVER),
        ("failed", [{"event": "cancelled"}], Start.NEVER),  # a user wanted that: no failure
        ("failed", [], Start.LATER),
    ],
)
def test_the_events_of_the_needed_run_decide_whether_to_start(
    tmp_path: Path, kind: str, events: list[dict[str, object]], start: Start
) -> None:
    needs = Needs(**{kind: (make(tmp_path, STARTED, *events),)})
    assert judge_needs(needs)[0] is start


def test_one_that_died_without_a_last_word_has_ended_and_failed(tmp_path: Path) -> None:
    run = make(tmp_path, STARTED)
    assert judge_needs(Needs(ended=(run,)), has_ended=lambda _: True)[0] is Start.NOW
    assert judge_needs(Needs(failed=(run,)), has_ended=lambda _: True)[0] is Start.NOW
    assert judge_needs(Needs(completed=(run,)), has_ended=lambda _: True)[0] is Start.LATER


def test_of_several_one_failure_is_enough(tmp_path: Path) -> None:
    needs = Needs(failed=(make(tmp_path, STARTED, COMPLETED), make(tmp_path, STARTED, GAVE_UP)))
    assert judge_needs(needs)[0] is Start.NOW


def test_the_wait_is_in_the_batch_script_and_in_the_manifest(scontrol: None, tmp_path: Path) -> None:
    earlier = make(tmp_path)
    order = order_for(small_experiment(), runs=tmp_path / "later", profile=SLURM, after=[earlier])
    assert "\n#SBATCH --dependency=afterok:7\n" in render(order, now=NOW)
    (run,) = make_runs(order, now=NOW, made=[]).runs
    assert read_manifest(run)["after"] == [str(earlier.path)]


def test_a_local_run_waits_for_another_to_complete(local: LocalRuns) -> None:
    first, later = local.make(small_experiment(), small_experiment(seed=1), parallel=2)
    write_manifest(later, read_manifest(later) | Needs(completed=(first,)).as_manifest())
    submit_local([later])
    time.sleep(3)
    assert "attempt_started" not in story(later)
    submit_local([first])
    assert wait_for_end(first).event == "completed"
    assert wait_for_end(later).event == "completed"
    ends = {e.event: e.t for e in read_events(first.events)}
    assert next(e.t for e in read_events(later.events) if e.event == "attempt_started") >= ends["completed"]


def test_a_stage_for_a_failure_that_does_not_happen_is_left_out(local: LocalRuns) -> None:
    first, later = local.start(small_experiment(), small_experiment(seed=1), parallel=2)
    wait_for_end(first)
    wait_for_end(later)
    (rescue,) = local.make(small_experiment(seed=2))
    write_manifest(rescue, read_manifest(rescue) | Needs(failed=(first, later)).as_manifest())
    submit_local([rescue])
    assert wait_for_end(rescue).get("detail", "").startswith("left out: ")
    assert "attempt_started" not in story(rescue)
    assert is_left_out(read_events(rescue.events))


def test_what_waits_can_be_cancelled(local: LocalRuns) -> None:
    first, later = local.make(small_experiment(), small_experiment(seed=1), parallel=2)
    write_manifest(later, read_manifest(later) | Needs(completed=(first,)).as_manifest())
    submit_local([later])
    assert cancel([later], now=NOW)[0].changed
    assert not find_members(later)
    assert "attempt_started" not in story(later)


def test_a_run_that_completed_or_whose_folder_is_gone_holds_nothing_up(tmp_path: Path) -> None:
    done = make(tmp_path, STARTED, {"event": "completed", "attempt": 1})
    later = make(tmp_path)
    write_manifest(later, read_manifest(later) | {"after": [str(done.path), "/nowhere/small/1"]})
    assert read_needs(later) == Needs(completed=(done,))
    assert judge_needs(read_needs(later))[0] is Start.NOW
