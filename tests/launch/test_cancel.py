"""Cancelled is cancelled: saved, ended, and not revived by anything but a user."""

import datetime as dt
import signal
from pathlib import Path

import pytest

from sedd.cluster.command import SlurmUnreachableError
from sedd.cluster.local import signal_local
from sedd.errors import RunError
from sedd.launch import cancel as cancel_module
from sedd.launch.cancel import cancel
from sedd.launch.local_processes import find_members, wait_until
from sedd.launch.requeue import requeue
from sedd.launch.submit_local import submit_local
from sedd.rundir.attempts import Cause, is_cancelled, parse_attempts
from sedd.rundir.events import read_events
from sedd.rundir.layout import create_run, write_manifest
from tests.launch.conftest import (
    LocalRuns,
    change_code,
    small_experiment,
    story,
    wait_for_end,
    wait_for_event,
    wait_for_steps,
    write_events,
)

NOW = dt.datetime.now(dt.UTC)


def test_a_running_run_saves_and_ends_for_good(local: LocalRuns) -> None:
    run = local.start_one(plan="long")
    wait_for_steps(run, 3)
    (result,) = cancel([run], now=NOW)
    assert result.changed
    assert not find_members(run)
    assert story(run) == ["submitted", "attempt_started", "cancelled", "stop_requested"]
    assert read_events(run.events)[-1].get("reason") == "stop"
    (second,) = cancel([run], now=NOW)
    assert (second.changed, second.detail) == (False, "cancelled already")


def test_a_cancelled_run_goes_on_when_its_user_says_so(local: LocalRuns) -> None:
    run = local.start_one(plan="long train")
    wait_for_steps(run, 3)
    cancel([run], now=NOW)
    (result,) = requeue([run], now=NOW)
    assert result.changed
    assert wait_for_end(run).event == "cancelled"  # the first last word; the newest is below
    wait_for_event(run, "completed")
    assert story(run)[-3:] == ["attempt_started", "resumed", "completed"]


def test_training_that_does_not_listen_is_killed_after_the_grace(
    local: LocalRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cancel_module, "GRACE_S", 0.5)
    run = local.start_one(small_experiment(), plan="deaf")
    wait_for_steps(run, 3)
    (result,) = cancel([run], now=NOW)
    assert "killed" in result.detail
    assert not find_members(run)


def test_a_run_waiting_for_its_next_attempt_is_cancelled_too(local: LocalRuns) -> None:
    run = local.start_one(plan="kill")
    wait_for_event(run, "requeued", count=2)
    cancel([run], now=NOW)
    assert not find_members(run)
    assert "completed" not in story(run)


def test_a_run_that_was_killed_is_cancelled_without_changing_what_ended_it(local: LocalRuns) -> None:
    run = local.start_one(plan="endless")
    wait_for_steps(run, 3)
    for member in sorted(find_members(run), key=lambda m: m.role.name != "CONTROLLER"):
        signal_local(member.process, signal.SIGKILL)
    assert wait_until(lambda: not find_members(run), timeout_s=5)
    (result,) = cancel([run], now=NOW)
    assert (result.changed, result.detail) == (True, "cancelled; it was not running")
    assert is_cancelled(read_events(run.events))
    assert [a.cause for a in parse_attempts(read_events(run.events))] == [Cause.KILLED]


def test_what_has_ended_is_left_as_it_is_and_says_so(local: LocalRuns) -> None:
    done, given_up = local.start_one(), local.start_one(small_experiment(seed=1), plan="crash")
    wait_for_end(done)
    wait_for_end(given_up)
    results = cancel([done, given_up], now=NOW)
    assert [r.changed for r in results] == [False, False]
    assert "completed already" in results[0].detail
    assert "given up already" in results[1].detail
    assert story(done)[-1] == "completed"


@pytest.mark.parametrize(
    ("last", "word"), [("cancelled", "cancelled already"), ("gave_up", "given up already")]
)
def test_what_has_ended_by_its_own_events_needs_no_slurm(
    last: str, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    run = create_run(tmp_path, "a", "20261122-000000-1a2b3c4d", "")
    write_manifest(run, {"spec_hash": "1a2b3c4d"})
    submitted = {"event": "submitted", "executor": "slurm", "job_id": "7"}
    started = {"event": "attempt_started", "attempt": 1, "executor": "slurm"}
    write_events(run, submitted, started)
    with pytest.raises(SlurmUnreachableError):
        cancel([run], now=NOW)
    write_events(run, submitted, started, {"event": last, "attempt": 1})
    (result,) = cancel([run], now=NOW)
    assert (result.changed, result.detail.partition(";")[0]) == (False, word)
    assert "its job still runs" in result.detail, "what was alive when it was cancelled may be so yet"


def test_a_run_of_another_machine_is_refused_before_anything_is_written(local: LocalRuns) -> None:
    run = local.make(small_experiment())[0]
    run.events.write_text(
        '{"t": "2026-11-22T00:00:00+00:00", "event": "submitted", "attempt": 0, "executor": "local", "host": "far"}\n'
    )
    with pytest.raises(RunError, match="far"):
        cancel([run], now=NOW)
    assert story(run) == ["submitted"]


def test_training_whose_job_entry_was_killed_can_be_cancelled(local: LocalRuns) -> None:
    run = local.start_one(plan="deaf")
    wait_for_steps(run, 3)
    for member in find_members(run):
        if member.role.name != "TRAINING":
            signal_local(member.process, signal.SIGKILL)
    cancel_result = cancel([run], now=NOW)
    assert cancel_result[0].changed
    assert not find_members(run)


def test_a_run_whose_submission_was_killed_before_its_event_is_cancelled_all_the_same(
    local: LocalRuns,
) -> None:
    (run,) = local.make(small_experiment(), plan="endless")
    started = "    controller = find_local(pid)\n    host"
    change_code(run, "launch/submit_local.py", started, f"    os.kill(os.getpid(), 9)\n{started}")
    with pytest.raises(RunError, match="cannot start"):
        submit_local([run])
    wait_for_steps(run, 3)
    assert "submitted" not in story(run)
    (done,) = cancel([run], now=dt.datetime.now(dt.UTC))
    assert (done.changed, done.detail) == (True, "cancelled")
    assert not find_members(run)
