"""Who decides and who wakes at a rung, from run folders alone: once, whoever was killed on the way."""

import dataclasses
import datetime as dt
import json
import threading
from pathlib import Path

import pytest

from sedd.amend.extend import extend
from sedd.errors import RunError
from sedd.halving.fellows import read_halving
from sedd.halving.rungs import decide_all, open_gate
from sedd.halving.savings import read_savings
from sedd.launch.cancel import cancel
from sedd.launch.predecessors import Needs, Start, judge_needs
from sedd.launch.requeue import requeue
from sedd.launch.wake import may_start, wake_fellows
from sedd.rundir.best import best_of
from sedd.rundir.events import append_event, read_events
from sedd.rundir.heartbeat import Heartbeat, write_heartbeat
from sedd.rundir.layout import RunDir, read_manifest, write_manifest
from tests.launch.conftest import LocalRuns, local, small_experiment, story, wait_for_event

__all__ = ["local"]

NOW = dt.datetime(2026, 11, 29, tzinfo=dt.UTC)


def sweep(local: LocalRuns, *, points: int = 3, rungs: tuple[int, ...] = (10,)) -> list[RunDir]:
    """Points of a halving sweep that keeps a third, whose trainings are stand-ins."""
    runs = local.make(*(small_experiment(seed=n) for n in range(points)), parallel=points)
    group = read_manifest(runs[0])["sweep"]
    for index, run in enumerate(runs):
        halving = {"group": group, "rungs": list(rungs), "keep": "1/3", "points": points, "index": index}
        write_manifest(run, read_manifest(run) | {"halving": halving})
    return runs


def note(run: RunDir, event: str, **fields: object) -> None:
    append_event(run.events, event, attempt=1, now=dt.datetime.now(dt.UTC), **fields)


def comes_to_rung(run: RunDir, bound: float, *, step: int = 10, pauses: bool = True) -> None:
    """As a training and its job entry would leave it."""
    if not any(e.event == "submitted" for e in read_events(run.events)):
        note(run, "submitted", job_id="host:1:0", executor="local", host="host")
        note(run, "attempt_started", job_id="host:1:0", host="host", pid=1)
    note(run, "checkpoint", step=step, reason="rung")
    note(run, "rung", step=step, validation_bound=bound)
    if pauses:
        note(run, "paused", step=step, job_id="host:1:0")


def words(run: RunDir) -> list[str]:
    return [word for word in story(run) if word in ("promoted", "stopped", "submitted")]


def test_the_last_to_pause_decides_for_all_and_starts_the_winner_once(local: LocalRuns) -> None:
    first, second, third = sweep(local)
    comes_to_rung(first, 2.5)
    comes_to_rung(second, 2.0)
    assert wake_fellows(second) == []
    assert [words(run) for run in (first, second)] == [["submitted", "stopped"], ["submitted"]]
    comes_to_rung(third, 2.2)
    # Two at once, as when an entry and a command on the login node meet.
    threads = [threading.Thread(target=wake_fellows, args=[run]) for run in (third, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert words(second) == ["submitted", "promoted", "submitted"]
    assert words(third) == ["submitted", "stopped"]
    assert wake_fellows(first) == []
    wait_for_event(second, "attempt_started", count=2)
    wait_for_event(second, "completed")


def test_who_was_killed_between_decision_and_submission_is_followed_by_somebody_who_submits(
    local: LocalRuns,
) -> None:
    first, second, third = sweep(local)
    for run, bound in ((first, 2.0), (second, 2.5), (third, 2.6)):
        comes_to_rung(run, bound)
    halving = read_halving(first)
    assert halving is not None
    decide_all(third, halving)  # and then SIGKILL
    assert may_start(read_events(first.events))
    assert wake_fellows(third) == [first]
    assert words(first) == ["submitted", "promoted", "submitted"]


def test_a_point_that_surely_goes_on_does_not_pause(local: LocalRuns) -> None:
    first, second, third = sweep(local)
    comes_to_rung(first, 2.5)
    comes_to_rung(second, 2.6)
    comes_to_rung(third, 2.0, pauses=False)
    third.metrics.write_text(json.dumps({"step": 10, "validation_bound": 2.0}) + "\n")
    gate = open_gate(third, attempt=1)
    assert gate is not None
    assert gate.lets_pass(10)
    assert gate.lets_pass(10)
    assert words(third) == ["submitted", "promoted"]
    assert not any(e.event == "paused" for e in read_events(third.events))


def test_a_rung_without_a_validation_is_an_error(local: LocalRuns) -> None:
    run, *_ = sweep(local)
    run.metrics.write_text(json.dumps({"step": 9, "validation_bound": 2.0}) + "\n")
    gate = open_gate(run, attempt=1)
    assert gate is not None
    with pytest.raises(RunError, match="no validation at step 10"):
        gate.lets_pass(10)


def test_a_point_that_is_cancelled_or_gave_up_makes_room(local: LocalRuns) -> None:
    first, second, third = sweep(local)
    comes_to_rung(first, 2.0)
    comes_to_rung(second, 2.5)
    note(third, "submitted", job_id="host:1:0", executor="local", host="host")
    note(third, "gave_up", cause="crashed")
    (done,) = cancel([first], now=NOW)
    assert done.changed
    assert "rung" in done.detail
    assert wake_fellows(first) == [second]


def test_what_waits_or_was_stopped_is_neither_revived_nor_extended(local: LocalRuns) -> None:
    first, second, _third = sweep(local)
    comes_to_rung(first, 2.0)
    comes_to_rung(second, 2.5)
    wake_fellows(first)
    (left_alone,) = requeue([first], now=NOW)
    assert not left_alone.changed
    assert "waits at a rung" in left_alone.detail
    with pytest.raises(RunError, match="stopped by rule"):
        requeue([second], now=NOW)
    for run in (first, second):
        with pytest.raises(RunError, match="only what has completed"):
            extend(run, 100, rewarm=None, check=lambda change: None, now=NOW)
    (cancelled,) = cancel([second], now=NOW)
    assert not cancelled.changed


def test_what_needs_all_points_starts_when_none_is_open_and_what_needs_a_stopped_one_never(
    local: LocalRuns,
) -> None:
    first, second, third = sweep(local)
    comes_to_rung(first, 2.0)
    comes_to_rung(second, 2.5)
    comes_to_rung(third, 2.6)
    needs = Needs(completed=(first, second, third))
    assert judge_needs(needs)[0] is Start.LATER
    wake_fellows(first)
    wait_for_event(first, "completed")
    assert judge_needs(needs)[0] is Start.NOW
    start, why = judge_needs(Needs(completed=(second,)))
    assert start is Start.STOPPED
    assert "stopped by rule" in why
    for run, bound in ((first, 2.4), (second, 2.0), (third, 2.6)):
        run.metrics.write_text(json.dumps({"step": 40, "validation_bound": bound}) + "\n")
    assert best_of([first, second, third]) == first


def test_savings_count_the_steps_that_stopped_points_were_spared(local: LocalRuns) -> None:
    runs = sweep(local)
    for n, run in enumerate(runs):
        comes_to_rung(run, 2.0 + n)
    wake_fellows(runs[0])
    wait_for_event(runs[0], "completed")
    savings = read_savings(runs)
    assert savings is not None
    assert (savings.points, savings.stopped, savings.full, savings.saved) == (3, 2, 120, 60)
    assert "2 of 3 points stopped, 50% of 120 steps trained" in str(savings)
    assert read_savings([RunDir(Path(run.path)) for run in local.make(small_experiment(seed=9))]) is None


def test_what_stopped_points_were_spared_is_counted_without_the_start_of_their_attempts(
    local: LocalRuns,
) -> None:
    told, paced = sweep(local)[:2]
    for run, rungs in ((told, {60: 10}), (paced, {60: 10, 80: 20})):
        for event, second, fields in (
            ("attempt_started", 0, {"job_id": "host:1:0", "host": "host", "pid": 1}),
            *(("checkpoint", second, {"step": step, "reason": "rung"}) for second, step in rungs.items()),
            ("paused", 90, {"step": 10}),
            ("stopped", 95, {"step": 10}),
        ):
            append_event(run.events, event, attempt=1, now=NOW + dt.timedelta(seconds=second), **fields)
    beat = Heartbeat(
        t=NOW.isoformat(), progress_t=NOW.isoformat(), attempt=1, phase="stopping", step=10, steps=40
    )
    write_heartbeat(told.heartbeat, dataclasses.replace(beat, eta_s=30.0))
    savings = read_savings([told])
    assert savings is not None
    assert savings.saved_s == 30.0  # 30 steps at a second each, though the first ten took a minute
    savings = read_savings([paced])
    assert savings is not None
    assert savings.saved_s == 40.0  # 20 steps at the two seconds between its rungs
    told.heartbeat.unlink()
    savings = read_savings([told])
    assert savings is not None
    assert "saved" not in str(savings)
