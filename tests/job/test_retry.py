"""The table of DESIGN 5: what follows the end of an attempt."""

import dataclasses
import datetime as dt
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sedd.job.retry import MAX_DELAY_S, GiveUp, Retry, retry_decision
from sedd.rundir.attempts import Attempt, Cause
from sedd.spec.retry import RetrySpec

NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
POLICY = RetrySpec(crashes=1, node_faults=2, without_progress=3)


def attempt(
    cause: Cause | None,
    *,
    first: int = 100,
    last: int | None = None,
    saved: int | None = None,
    host: str = "node1",
) -> Attempt:
    """An attempt from step `first` that kept `last`, in a checkpoint unless `saved` names another step."""
    last = first if last is None else last
    return Attempt(
        number=1,
        started=NOW,
        job_id="1",
        host=host,
        pid=1,
        first_step=first,
        last_step=last,
        checkpoint_step=last if saved is None else saved,
        ended=NOW,
        cause=cause,
        error=None,
    )


def chain(*causes: Cause | None, steps: int = 10) -> list[Attempt]:
    """Attempts that each save this many steps more than the one before."""
    starts = [100 + steps * k for k in range(len(causes))]
    return [
        attempt(cause, first=start, last=start + steps) for cause, start in zip(causes, starts, strict=True)
    ]


def history(text: str) -> list[Attempt]:
    """`crashed killed-` is a crash after progress, then a kill without any."""
    past, step = [], 100
    for word in text.split():
        last = step + 10 * (not word.endswith("-"))
        past.append(attempt(Cause(word.rstrip("-")), first=step, last=last))
        step = last
    return past


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
    silent = [attempt(None)] * 4
    assert isinstance(retry_decision(silent[:3], POLICY), Retry)
    assert isinstance(retry_decision(silent, POLICY), GiveUp)


def test_a_node_fault_names_every_faulty_node_once() -> None:
    past = [
        dataclasses.replace(a, host=h) for a, h in zip(chain(*3 * [Cause.NODE_FAULT]), "aba", strict=True)
    ]
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
    progressing = retry_decision(chain(*causes), generous)
    idle = retry_decision(chain(*causes, steps=0), generous)
    assert isinstance(progressing, Retry)
    assert progressing.delay_s == (MAX_DELAY_S if causes[-1] is Cause.DISK_FULL else 0)
    assert isinstance(idle, Retry)
    assert 0 <= idle.delay_s <= MAX_DELAY_S


def test_a_full_disk_is_waited_for_without_end() -> None:
    decision = retry_decision([attempt(Cause.DISK_FULL)] * 50, RetrySpec(without_progress=1, crashes=0))
    assert isinstance(decision, Retry)
    assert decision.delay_s > 0, "without a queue, not in a busy loop"


def test_slow_nodes_are_avoided_where_that_is_asked_for_but_never_many():
    preempted = enumerate(chain(*6 * [Cause.PREEMPTED]))
    past = [dataclasses.replace(a, slow_hosts=(f"slow{k}", "slow9")) for k, a in preempted]
    asked = retry_decision(past, RetrySpec(exclude_slow=True))
    assert isinstance(asked, Retry)
    assert asked.avoid_hosts == ("slow5", "slow9", "slow4", "slow3"), "the newest"
    unasked = retry_decision(past, RetrySpec())
    assert isinstance(unasked, Retry)
    assert unasked.avoid_hosts == ()


def given_up(past: list[Attempt], *, copied_step: int = 0) -> bool:
    return isinstance(retry_decision(past, POLICY, copied_step=copied_step), GiveUp)


def test_restarts_from_ever_later_copies_on_the_node_are_progress() -> None:
    """None of them saves a checkpoint; each starts where the copy of the one before stood."""
    starts = [100 + 7 * k for k in range(20)]
    past = [attempt(Cause.KILLED, first=a, last=b, saved=100) for a, b in itertools.pairwise(starts)]
    assert not given_up([*past, attempt(Cause.KILLED, first=starts[-1], saved=0)])


def test_steps_that_are_lost_with_every_job_are_progress_only_once() -> None:
    """Killed at 150, restarted from its copy, preempted without a save: the next job starts at 100 again."""
    job = [
        attempt(Cause.KILLED, first=100, last=150, saved=100),
        attempt(Cause.PREEMPTED, first=150, saved=0),
    ]
    assert not given_up(job * 2)
    assert given_up(job * 3)


def test_starts_that_end_before_they_resume_are_no_progress() -> None:
    """By the one after them they had kept step 100; the run has that for long."""
    starts = [attempt(Cause.KILLED, first=0, last=100), attempt(Cause.KILLED, first=100)]
    assert given_up([attempt(Cause.KILLED, first=0, last=100), *starts * 2])


def test_a_checkpoint_is_progress_also_below_a_copy_that_was_lost() -> None:
    """Each saves a little when it is preempted; none comes as far as the copy of the first had come."""
    lost = [
        attempt(Cause.KILLED, first=100, last=900, saved=100),
        attempt(Cause.PREEMPTED, first=900, saved=0),
    ]
    assert not given_up([*lost, *chain(*10 * [Cause.PREEMPTED])])


def test_an_attempt_that_has_copied_more_is_judged_by_the_start_of_the_next_one() -> None:
    idle = [attempt(Cause.KILLED)] * 4
    assert given_up(idle)
    assert given_up(idle, copied_step=100)
    assert not given_up(idle, copied_step=101)
    assert given_up([*idle, attempt(Cause.KILLED)], copied_step=101), "no copy of it was used"


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30), st.integers(0, 30), st.booleans())))
def test_no_run_goes_on_for_ever_without_a_record(starts: list[tuple[int, int, int, bool]]) -> None:
    """Whatever is kept and lost: with 30 steps there are at most 60 records, each with 4 attempts that set none."""
    past: list[Attempt] = []
    while len(past) <= 60 * 4 + 4:
        first, more, saved, is_copied = starts[len(past) % len(starts)] if starts else (0, 0, 0, False)
        last = min(30, first + more)
        past.append(attempt(Cause.KILLED, first=first, last=last, saved=min(saved, last)))
        if given_up(past, copied_step=30 * is_copied):
            return
    pytest.fail("it goes on for ever")
