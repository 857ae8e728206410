"""`requeue`: what ended goes on, what runs moves on, what is done stays done."""

import datetime as dt
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from sedd.amend.reshape import Shape, reshape
from sedd.cluster.local import signal_local
from sedd.errors import RunError, UsageError
from sedd.launch.cancel import cancel
from sedd.launch.local_processes import Role, find_members, wait_until
from sedd.launch.requeue import Requeued, requeue
from sedd.rundir.attempts import Cause, parse_attempts
from sedd.rundir.events import read_events
from sedd.spec.build import DataTask
from tests.launch.conftest import (
    LocalRuns,
    small_experiment,
    story,
    wait_for_end,
    wait_for_event,
    wait_for_steps,
    write_events,
)

NOW = dt.datetime.now(dt.UTC)


def test_a_run_that_gave_up_goes_on_from_where_it_was_with_fresh_budgets(local: LocalRuns) -> None:
    run = local.start_one(plan="crash@5 crash@9 crash@12 train")
    wait_for_end(run)
    (result,) = requeue([run], now=NOW)
    assert result.changed
    assert "continues from its newest checkpoint" in result.detail
    wait_for_event(run, "completed")
    attempts = parse_attempts(read_events(run.events))
    assert [a.cause for a in attempts] == [Cause.CRASHED, Cause.CRASHED, Cause.CRASHED, Cause.COMPLETED]
    assert attempts[2].first_step == 9


def test_a_run_that_saved_nothing_is_not_said_to_go_on(local: LocalRuns) -> None:
    run = local.start_one(plan="crash")
    wait_for_end(run)
    (result,) = requeue([run], now=NOW)
    assert "starts over: nothing was saved yet" in result.detail
    wait_for_end(run)


def test_a_running_run_saves_and_starts_again_free_of_charge(local: LocalRuns) -> None:
    run = local.start_one()
    wait_for_steps(run, 5)
    requeue([run], now=NOW)
    wait_for_end(run)
    assert "requeued:moved" in story(run)
    assert story(run)[-1] == "completed"


def test_a_completed_run_is_refused(local: LocalRuns) -> None:
    run = local.start_one()
    wait_for_end(run)
    with pytest.raises(RunError, match="completed") as refusal:
        requeue([run], now=NOW)
    assert "--resubmit" in (refusal.value.hint or "")
    assert "sedd extend" in (refusal.value.hint or "")


def test_a_completed_run_that_trained_nothing_is_not_said_to_have_steps(local: LocalRuns) -> None:
    build = {"inputs": ["/data/proteins.fasta"], "store": "/data/proteins.store"}
    (run,) = local.make(DataTask.model_validate({"name": "data", "task": "data", "build": build}))
    write_events(run, {"event": "submitted", "executor": "local"}, {"event": "completed", "attempt": 1})
    with pytest.raises(RunError, match="completed") as refusal:
        requeue([run], now=NOW)
    assert refusal.value.hint == "sedd submit --resubmit SPEC does the same anew"
    with pytest.raises(RunError, match="completed") as refusal:
        reshape(run, Shape(walltime="2h"), check=lambda change: None, now=NOW)
    assert refusal.value.hint == "sedd submit --resubmit SPEC does the same anew"
    with pytest.raises(UsageError, match=f"--processes 2: run {run.id} has task: data, the work of one"):
        reshape(run, Shape(processes=2, walltime="2h"), check=lambda change: None, now=NOW)


def test_a_run_whose_job_entry_was_killed_is_revived_once_its_training_has_saved(local: LocalRuns) -> None:
    run = local.start_one(plan="long train")
    wait_for_steps(run, 5)
    for role in (Role.CONTROLLER, Role.ENTRY):
        for member in find_members(run):
            if member.role is role:
                signal_local(member.process, signal.SIGKILL)
    requeue([run], now=NOW)
    wait_for_event(run, "completed")
    attempts = parse_attempts(read_events(run.events))
    assert [a.cause for a in attempts] == [Cause.KILLED, Cause.COMPLETED]
    assert attempts[1].first_step == attempts[0].last_step > 0, "no step may be lost"


def test_a_run_between_two_attempts_is_left_to_itself(local: LocalRuns) -> None:
    run = local.start_one(plan="kill train")
    wait_for_event(run, "requeued")
    assert wait_until(lambda: all(m.role is not Role.TRAINING for m in find_members(run)), timeout_s=5)
    (result,) = requeue([run], now=NOW)
    assert not result.changed
    assert "about to start" in result.detail
    wait_for_end(run)


def test_of_three_at_one_instant_one_wins_and_the_others_are_told(local: LocalRuns) -> None:
    run = local.start_one(plan="crash crash endless")
    wait_for_end(run)
    at_once = threading.Barrier(3)

    def one() -> Requeued:
        at_once.wait()
        return requeue([run], now=NOW)[0]

    with ThreadPoolExecutor(3) as pool:
        results = [future.result() for future in [pool.submit(one) for _ in range(3)]]
    assert sorted(result.changed for result in results) == [False, False, True]
    assert all("another `sedd requeue` has just" in r.detail for r in results if not r.changed)
    assert [e.event for e in read_events(run.events)].count("submitted") == 2
    cancel([run], now=NOW)


def test_a_run_whose_submission_is_damaged_is_not_submitted_a_second_time(local: LocalRuns) -> None:
    (run,) = local.make(small_experiment())
    run.events.write_text('{"t": "2026-11-22T12:00:00+00:00", "event": "submi\n')
    with pytest.raises(RunError, match=r"events\.jsonl:1: damaged line"):
        requeue([run], now=NOW)
