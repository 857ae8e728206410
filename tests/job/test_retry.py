"""The table of DESIGN 5: what follows the end of an attempt."""

import dataclasses
import datetime as dt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sedd.job.retry import MAX_DELAY_S, GiveUp, Retry, retry_decision
from sedd.rundir.attempts import Attempt, Cause
from sedd.spec.retry import RetrySpec

NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
POLICY = RetrySpec(crashes=1, node_faults=2, without_progress=3)


def attempt(cause: Cause | None, *, steps: int = 10, host: str = "node1") -> Attempt:
    return Attempt(
        number=1,
        started=NOW,
        job_id="1",
        host=host,
        pid=1,
        first_step=100,
        last_step=100 + steps,
        ended=NOW,
        cause=cause,
        error=None,
    )


def history(text: str) -> list[Attempt]:
    """`crashed killed-` is a crash after progress, then a kill without any."""
    return [attempt(Cause(word.rstrip("-")), steps=0 if word.endswith("-") else 10) for word in text.split()]


@pytest.mark.parametrize(
    ("past", "follows"),
    [
        ("completed", GiveUp),
        ("cancelled", GiveUp),
        ("preempted", Retry),
        ("preempted " * 50, Retry),
        ("time_limit " * 50, Retry),
        ("killed " * 50, Retry),
        ("moved- " * 50, Retry),
        ("crashed", Retry),
        ("crashed crashed", GiveUp),
        ("crashed preempted crashed", GiveUp),
        ("crashed preempted", Retry),
        ("node_fault node_fault", Retry),
        ("node_fault node_fault node_fault", GiveUp),
        ("node_fault node_fault crashed", Retry),
        ("killed- killed- killed-", Retry),
        ("killed- killed- killed- killed-", GiveUp),
        ("preempted- killed- time_limit- preempted-", GiveUp),
        ("killed- killed- preempted killed- killed-", Retry),
        ("killed- killed- killed- moved-", Retry),
        ("killed- killed- moved- killed- killed-", GiveUp),
    ],
)
def test_what_follows_an_attempt(past: str, follows: type[Retry | GiveUp]) -> None:
    assert isinstance(retry_decision(history(past), POLICY), follows)


def test_an_attempt_without_a_last_word_counts_as_killed() -> None:
    silent = [attempt(None, steps=0)] * 4
    assert isinstance(retry_decision(silent[:3], POLICY), Retry)
    assert isinstance(retry_decision(silent, POLICY), GiveUp)


def test_a_node_fault_names_every_faulty_node_once() -> None:
    past = [attempt(Cause.NODE_FAULT, host=host) for host in ("a", "b", "a")]
    decision = retry_decision(past, RetrySpec(node_faults=5))
    assert isinstance(decision, Retry)
    assert decision.avoid_hosts == ("a", "b")


def test_giving_up_says_which_setting_was_spent() -> None:
    decision = retry_decision(history("crashed crashed"), POLICY)
    assert decision == GiveUp(detail="crashed 2 times; retry allows 1")


@given(
    st.lists(st.sampled_from([c for c in Cause if c not in (Cause.COMPLETED, Cause.CANCELLED)]), min_size=1)
)
def test_progress_is_never_punished_with_a_pause_and_a_pause_is_never_long(causes: list[Cause]) -> None:
    generous = RetrySpec(crashes=1000, node_faults=1000, without_progress=1000)
    progressing = retry_decision([attempt(c) for c in causes], generous)
    idle = retry_decision([attempt(c, steps=0) for c in causes], generous)
    assert isinstance(progressing, Retry)
    assert progressing.delay_s == (MAX_DELAY_S if causes[-1] is Cause.DISK_FULL else 0)
    assert isinstance(idle, Retry)
    assert 0 <= idle.delay_s <= MAX_DELAY_S


def test_a_full_disk_is_waited_for_without_end() -> None:
    decision = retry_decision(
        [attempt(Cause.DISK_FULL, steps=0)] * 50, RetrySpec(without_progress=1, crashes=0)
    )
    assert isinstance(decision, Retry)
    assert decision.delay_s > 0, "without a queue, not in a busy loop"


def test_slow_nodes_are_avoided_where_that_is_asked_for_but_never_many():
    past = [dataclasses.replace(attempt(Cause.PREEMPTED), slow_hosts=(f"slow{k}", "slow9")) for k in range(6)]
    asked = retry_decision(past, RetrySpec(exclude_slow=True))
    assert isinstance(asked, Retry)
    assert asked.avoid_hosts == ("slow5", "slow9", "slow4", "slow3"), "the newest"
    unasked = retry_decision(past, RetrySpec())
    assert isinstance(unasked, Retry)
    assert unasked.avoid_hosts == ()
