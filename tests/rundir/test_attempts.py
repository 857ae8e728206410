"""Events → attempts and what ended them."""

import datetime as dt
from typing import Any

import pytest

from sedd.rundir.attempts import Cause, gpus_in_foreground, is_cancelled, parse_attempts
from sedd.rundir.events import Event

START = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
Said = tuple[str, dict[str, Any]]


def told(*said: Said) -> list[Event]:
    """Events a minute apart; an attempt_started opens the next attempt."""
    events, attempt = [], 0
    for minute, (name, fields) in enumerate(said):
        attempt += name == "attempt_started"
        events.append(Event(START + dt.timedelta(minutes=minute), name, attempt, fields))
    return events


SUBMITTED: Said = ("submitted", {"job_id": "7", "executor": "slurm"})
STARTED: Said = ("attempt_started", {"job_id": "7", "host": "n1", "pid": 42})


def saved(step: int) -> Said:
    return "checkpoint", {"step": step}


def failed(cause: str) -> Said:
    return "failed", {"cause": cause, "error": "ValueError: no"}


@pytest.mark.parametrize(
    ("said", "cause"),
    [
        ([], None),
        ([saved(5)], None),
        ([("stop_requested", {"step": 5}), saved(5)], None),
        ([saved(9), ("completed", {"step": 9})], Cause.COMPLETED),
        ([saved(5), ("requeued", {"cause": "preempted"})], Cause.PREEMPTED),
        ([saved(5), ("requeued", {"cause": "time_limit"})], Cause.TIME_LIMIT),
        ([("requeued", {"cause": "moved"})], Cause.MOVED),
        ([failed("crashed")], Cause.CRASHED),
        ([failed("node_fault")], Cause.NODE_FAULT),
        ([failed("node_fault"), ("requeued", {"cause": "node_fault"})], Cause.NODE_FAULT),
        ([failed("killed"), ("requeued", {"cause": "killed"})], Cause.KILLED),
        ([failed("crashed"), ("gave_up", {"cause": "crashed"})], Cause.CRASHED),
        ([("cancelled", {"by": "me"})], Cause.CANCELLED),
        ([("requeued", {"cause": "something newer"})], Cause.CRASHED),
        ([("gave_up", {})], Cause.CRASHED),
    ],
)
def test_what_ended_an_attempt(said: list[Said], cause: Cause | None):
    (attempt,) = parse_attempts(told(SUBMITTED, STARTED, *said))
    assert attempt.cause == cause
    assert (attempt.ended is None) == (cause is None)


def test_an_attempt_without_a_last_word_was_killed_if_another_followed():
    first, second = parse_attempts(told(SUBMITTED, STARTED, saved(5), STARTED))
    assert first.cause is Cause.KILLED
    assert first.ended is None, "nobody knows when"
    assert second.cause is None


def test_an_attempt_that_was_over_when_its_run_was_cancelled_ended_as_it_ended():
    over = ("cancelled", {"by": "me", "over": True})
    (killed,) = parse_attempts(told(SUBMITTED, STARTED, saved(5), over))
    assert (killed.cause, killed.ended) == (Cause.KILLED, None)
    (crashed,) = parse_attempts(told(SUBMITTED, STARTED, failed("crashed"), over))
    assert crashed.cause is Cause.CRASHED


def test_an_attempt_says_where_it_began_and_what_it_has_saved():
    resumed = ("resumed", {"step": 20, "checkpoint": "x"})
    first, second, third = parse_attempts(
        told(STARTED, saved(10), saved(20), STARTED, resumed, STARTED, resumed, saved(30))
    )
    assert (first.first_step, first.last_step) == (0, 20)
    assert (second.first_step, second.last_step) == (20, 20)
    assert (third.first_step, third.last_step) == (20, 30)


def test_what_an_attempt_continued_from_the_one_before_had_kept():
    """Copies on the node have no events of their own."""
    copied = ("resumed", {"step": 27, "checkpoint": "x", "tier": "node"})
    first, second = parse_attempts(told(STARTED, saved(20), STARTED, copied))
    assert (first.last_step, second.first_step) == (27, 27)
    assert (first.checkpoint_step, second.checkpoint_step) == (20, 0), "a copy is no checkpoint"
    assert (first.from_copy, second.from_copy) == (False, True)


def test_a_checkpoint_whose_event_was_lost_shows_by_the_next_start():
    resumed = ("resumed", {"step": 27, "checkpoint": "x"})
    first, second = parse_attempts(told(STARTED, saved(20), STARTED, resumed))
    assert (first.last_step, first.checkpoint_step, second.checkpoint_step) == (27, 27, 27)


@pytest.mark.parametrize(
    ("finding", "hosts"),
    [
        ({"check": "stragglers", "status": "WARN", "host": "n3"}, ("n3",)),
        ({"check": "card_speed", "status": "WARN"}, ("n1",)),
        ({"check": "card_speed", "status": "UNKNOWN"}, ()),
        ({"check": "gpus", "status": "WARN"}, ()),
    ],
)
def test_an_attempt_says_which_nodes_were_slow(finding: dict[str, str], hosts: tuple[str, ...]):
    (attempt,) = parse_attempts(told(STARTED, ("preflight", {"host": "n1", "findings": [finding]})))
    assert attempt.slow_hosts == hosts


def test_an_attempt_says_where_it_ran_and_why_it_failed():
    (attempt,) = parse_attempts(told(SUBMITTED, STARTED, failed("crashed")))
    assert (attempt.number, attempt.job_id, attempt.host, attempt.pid) == (1, "7", "n1", 42)
    assert attempt.error == "ValueError: no"
    assert attempt.started == START + dt.timedelta(minutes=1)
    assert attempt.ended == START + dt.timedelta(minutes=2)


def test_nothing_was_attempted_before_the_first_start():
    assert parse_attempts([]) == ()
    assert parse_attempts(told(SUBMITTED, ("preflight", {"ok": True}))) == ()


@pytest.mark.parametrize(
    ("names", "cancelled"),
    [
        ([], False),
        (["submitted"], False),
        (["submitted", "cancelled"], True),
        (["submitted", "attempt_started", "cancelled", "requeued"], True),
        (["submitted", "cancelled", "submitted"], False),
        (["submitted", "cancelled", "submitted", "cancelled"], True),
    ],
)
def test_the_users_last_word_counts(names: list[str], cancelled: bool):
    assert is_cancelled(told(*((name, {}) for name in names))) is cancelled


IN_FOREGROUND: Said = ("attempt_started", {"executor": "foreground", "gpus": 3})
AS_A_JOB: Said = ("attempt_started", {"executor": "slurm", "gpus": 8})


@pytest.mark.parametrize(
    ("said", "gpus"),
    [
        ([], None),
        ([SUBMITTED, AS_A_JOB], None),
        ([SUBMITTED, IN_FOREGROUND, saved(5)], 3),
        ([SUBMITTED, AS_A_JOB, failed("killed"), IN_FOREGROUND], 3),
        ([SUBMITTED, IN_FOREGROUND, ("stopped", {}), SUBMITTED], None),  # for a job of the spec's size
        ([SUBMITTED, IN_FOREGROUND, SUBMITTED, AS_A_JOB], None),
        ([STARTED], None),
        ([("attempt_started", {"executor": "foreground"})], None),  # of an older version
    ],
)
def test_in_the_foreground_a_run_has_the_gpus_with_which_it_was_started(said: list[Said], gpus: int | None):
    assert gpus_in_foreground(told(*said)) == gpus
