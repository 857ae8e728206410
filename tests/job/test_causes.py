"""What ended an attempt, told from facts."""

import datetime as dt
import signal

import pytest

from sedd.cluster.jobs import JobFact
from sedd.cluster.states import JobState
from sedd.job.causes import (
    MOVED_BY,
    Ending,
    SlurmFacts,
    by_exit,
    cause_of,
    describe_exit,
    first_failure,
    in_newest_attempt,
)
from sedd.rundir.attempts import Cause
from sedd.rundir.events import Event
from sedd.rundir.exits import Exit

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
START = Event(NOW, "attempt_started", 1)
TERM, USR2 = signal.SIGTERM, signal.SIGUSR2


def ended(code: int, *signals: int, left_s: float | None = None) -> Ending:
    return Ending(exit_code=code, signals=frozenset(signals), time_left_s=left_s, rank=0)


def slurm(
    state: JobState | None,
    *,
    ran_s: float = 600,
    restarts: int = 0,
    reason: str | None = None,
    preempted: bool = False,
) -> SlurmFacts:
    job = state and JobFact(
        job_id="7",
        state=state,
        starts_at=NOW - dt.timedelta(seconds=ran_s),
        time_limit_s=86400,
        restarts=restarts,
        reason=reason,
        preempted_at=NOW if preempted else None,
    )
    return SlurmFacts(job=job, restarts=0, lead_s=120)


def cause(ending: Ending, facts: SlurmFacts | None = None, *said: Event) -> Cause:
    return cause_of(ending, [START, *said], facts, now=NOW)


RUNNING = slurm(JobState.RUNNING)
NEAR_LIMIT = slurm(JobState.RUNNING, ran_s=86400 - 110)


@pytest.mark.parametrize(
    ("ending", "facts", "expected"),
    [
        (ended(Exit.COMPLETED), None, Cause.COMPLETED),
        (ended(Exit.COMPLETED, TERM), slurm(JobState.CANCELLED), Cause.COMPLETED),
        (ended(Exit.STOPPED), None, Cause.PREEMPTED),
        (ended(Exit.STOPPED, TERM), None, Cause.PREEMPTED),
        (ended(Exit.STOPPED, left_s=-1.0), None, Cause.TIME_LIMIT),
        (ended(-signal.SIGTERM), None, Cause.PREEMPTED),
        (ended(-signal.SIGKILL), None, Cause.KILLED),
        (ended(137), None, Cause.KILLED),
        (ended(-signal.SIGSEGV), None, Cause.CRASHED),
        (ended(Exit.CRASHED), None, Cause.CRASHED),
        (ended(Exit.NODE_FAULT), None, Cause.NODE_FAULT),
        # A rank that fails after the job was told to leave has lost its peers.
        (ended(Exit.CRASHED, TERM), RUNNING, Cause.PREEMPTED),
        (ended(-signal.SIGKILL, TERM), RUNNING, Cause.PREEMPTED),
        (ended(Exit.CRASHED, signal.SIGCONT), RUNNING, Cause.CRASHED),
        (ended(Exit.STOPPED, TERM), RUNNING, Cause.PREEMPTED),
        (ended(Exit.STOPPED, USR2), RUNNING, Cause.PREEMPTED),
        (ended(Exit.STOPPED, USR2), NEAR_LIMIT, Cause.TIME_LIMIT),
        (ended(Exit.STOPPED, TERM), NEAR_LIMIT, Cause.PREEMPTED),
        (ended(Exit.STOPPED, TERM), slurm(JobState.RUNNING, ran_s=86400), Cause.TIME_LIMIT),
        (ended(Exit.STOPPED, TERM), slurm(JobState.TIMEOUT), Cause.TIME_LIMIT),
        (ended(Exit.STOPPED, TERM), slurm(JobState.CANCELLED), Cause.CANCELLED),
        (ended(Exit.STOPPED, TERM), slurm(JobState.PENDING), Cause.PREEMPTED),
        (ended(Exit.STOPPED, TERM), slurm(JobState.COMPLETING, restarts=1), Cause.PREEMPTED),
        (ended(Exit.STOPPED, TERM), slurm(None), Cause.PREEMPTED),
        # SLURM 22.05 shows COMPLETING from SIGTERM on, whatever the reason.
        (ended(Exit.STOPPED, TERM), slurm(JobState.COMPLETING), Cause.CANCELLED),
        (ended(Exit.STOPPED, TERM), slurm(JobState.COMPLETING, reason="TimeLimit"), Cause.TIME_LIMIT),
        (ended(Exit.STOPPED, TERM), slurm(JobState.RUNNING, preempted=True), Cause.PREEMPTED),
        (ended(Exit.STOPPED, USR2), slurm(JobState.RUNNING, ran_s=86290, preempted=True), Cause.PREEMPTED),
        (ended(-signal.SIGKILL), slurm(JobState.CANCELLED), Cause.CANCELLED),
        (ended(-signal.SIGKILL), slurm(JobState.COMPLETING, restarts=1), Cause.PREEMPTED),
        (ended(-signal.SIGKILL), RUNNING, Cause.KILLED),
    ],
)
def test_cause(ending: Ending, facts: SlurmFacts | None, expected: Cause) -> None:
    assert cause(ending, facts) is expected


@pytest.mark.parametrize("code", [-signal.SIGKILL, -signal.SIGSEGV, Exit.CRASHED, None])
@pytest.mark.parametrize("facts", [None, RUNNING, slurm(JobState.PENDING), slurm(JobState.CANCELLED)])
def test_what_happens_after_the_last_step_is_saved_changes_nothing(
    code: int | None, facts: SlurmFacts | None
) -> None:
    saved = Event(NOW, "checkpoint", 1, {"step": 40, "reason": "last"})
    crashed = Event(NOW, "failed", 1, {"cause": "crashed", "rank": 0})
    ending = Ending(exit_code=code, signals=frozenset({TERM}), time_left_s=None, rank=0)
    assert cause(ending, facts, saved, crashed) is Cause.COMPLETED
    again = Event(NOW, "attempt_started", 2, {"job_id": "7"})
    assert cause(ending, facts, saved, again) is not Cause.COMPLETED


def test_the_users_cancellation_wins_over_everything_but_completion() -> None:
    cancelled = Event(NOW, "cancelled", 1)
    for facts in (None, RUNNING, slurm(JobState.PENDING)):
        assert cause(ended(Exit.STOPPED, TERM), facts, cancelled) is Cause.CANCELLED
        assert cause(ended(-signal.SIGKILL), facts, cancelled) is Cause.CANCELLED
        assert cause(ended(Exit.COMPLETED), facts, cancelled) is Cause.COMPLETED


def test_a_cancellation_before_the_last_submission_is_forgotten() -> None:
    said = (Event(NOW, "cancelled", 1), Event(NOW, "submitted", 1), START)
    assert cause(ended(Exit.STOPPED, TERM), None, *said) is Cause.PREEMPTED


def test_a_users_requeue_is_told_from_a_preemption_by_its_announcement() -> None:
    asked = Event(NOW, "stop_requested", 1, {"by": MOVED_BY})
    assert cause(ended(Exit.STOPPED), None, asked) is Cause.MOVED
    assert cause(ended(Exit.STOPPED, USR2), RUNNING, asked) is Cause.MOVED
    assert cause(ended(Exit.STOPPED), None, asked, START) is Cause.PREEMPTED, "asked of an earlier attempt"


def test_the_root_of_several_failures_is_the_one_that_made_the_others_fail() -> None:
    lost_peer = Event(NOW, "failed", 1, {"cause": "crashed", "error": "connection closed by peer"})
    killed = Event(NOW, "failed", 1, {"cause": "killed"})
    assert cause(ended(Exit.CRASHED), None, lost_peer, killed) is Cause.KILLED
    assert first_failure([START, lost_peer]) is Cause.CRASHED
    assert first_failure([killed, START]) is None


def test_when_srun_ends_the_step_because_one_rank_failed_that_failure_is_the_cause() -> None:
    killed = Event(NOW, "failed", 1, {"cause": "killed", "rank": 3})
    assert cause(ended(Exit.STOPPED, TERM), RUNNING, killed) is Cause.KILLED
    assert cause(ended(Exit.STOPPED, TERM), slurm(JobState.COMPLETING, restarts=1), killed) is Cause.PREEMPTED
    assert cause(ended(Exit.STOPPED, TERM, USR2), NEAR_LIMIT, killed) is Cause.TIME_LIMIT


def test_only_the_newest_attempts_words_count() -> None:
    again = Event(NOW, "attempt_started", 2)
    late = Event(NOW, "failed", 1)  # of an attempt on a lost node that is back
    said = [Event(NOW, "submitted", 0), START, Event(NOW, "failed", 1), again, late, Event(NOW, "resumed", 2)]
    assert [(e.event, e.attempt) for e in in_newest_attempt(said)] == [("attempt_started", 2), ("resumed", 2)]
    assert list(in_newest_attempt(said[:1])) == []


@pytest.mark.parametrize(
    ("root", "expected"),
    [
        ("node_fault", Cause.NODE_FAULT),
        ("crashed", Cause.CRASHED),
        ("killed", Cause.KILLED),
        (None, Cause.KILLED),
    ],
)
def test_a_rank_that_lost_another_is_never_the_root(root: str | None, expected: Cause) -> None:
    lost = Event(NOW, "failed", 1, {"cause": "killed", "lost_peer": True, "rank": 0})
    roots = [Event(NOW, "failed", 1, {"cause": root, "rank": 1})] if root else []
    assert first_failure([START, lost, *roots, lost]) is expected


def test_exits_are_told_in_words() -> None:
    assert describe_exit(-9) == "killed by SIGKILL"
    assert describe_exit(3) == "exit code 3"
    assert describe_exit(Exit.DISK_FULL) == "the disk of the run folder is full, or its quota is used up"
    assert by_exit(Exit.DISK_FULL) is Cause.DISK_FULL
    assert by_exit(-11) is Cause.CRASHED
