"""When the next attempt must be secured, for each way in which SLURM takes a job down."""

import datetime as dt
import signal

import pytest

from sedd.cluster.jobs import JobFact
from sedd.cluster.states import JobState
from sedd.job.deadline import PATIENCE_S, StopFacts, seconds_to_secure

NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
USR2, TERM = frozenset({signal.SIGUSR2}), frozenset({signal.SIGTERM})


def job(state: JobState = JobState.RUNNING, *, ends_in_s: float | None = None, **fields: object) -> JobFact:
    ends_at = None if ends_in_s is None else NOW + dt.timedelta(seconds=ends_in_s)
    return JobFact(job_id="7", state=state, ends_at=ends_at, **fields)  # type: ignore[arg-type] # any field


def seconds(
    fact: JobFact | None, *, signals: frozenset[int] = USR2, kill_wait_s: float = 30, executor: str = "slurm"
) -> float:
    facts = StopFacts(
        executor=executor,
        job=fact,
        restarts=0,
        kill_wait_s=kill_wait_s,
        lead_s=40,
        signals=signals,
        save_s=None,
    )
    return seconds_to_secure(facts, now=NOW)


@pytest.mark.parametrize("left_s", [5, 15, 30, 60, 120, 600])
def test_before_a_time_limit_it_is_asked_with_seconds_to_spare(left_s: float) -> None:
    """The same holds in the grace time of a preemption, whose end SLURM shows as the job's."""
    until = seconds(job(ends_in_s=left_s))
    assert 3 <= left_s - until <= max(3, left_s / 4)
    assert until > 0.2 * left_s, "a save gets most of the time"


@pytest.mark.parametrize("kill_wait_s", [10, 30, 60])
@pytest.mark.parametrize(
    "fact",
    [
        job(JobState.COMPLETING, ends_in_s=4000),
        job(JobState.RUNNING, ends_in_s=4000, restarts=1),  # requeued without grace
        job(JobState.PENDING),
        job(JobState.CANCELLED),
        job(JobState.TIMEOUT),
    ],
)
def test_once_slurm_is_ending_it_there_is_no_more_than_kill_wait(fact: JobFact, kill_wait_s: float) -> None:
    assert 0 < seconds(fact, signals=TERM, kill_wait_s=kill_wait_s) <= kill_wait_s - 2.5


def test_a_job_that_slurm_leaves_alone_may_take_its_time_to_save() -> None:
    """`sedd requeue` sends the signal, too. Then there is no hurry, but a training that hangs must not stay."""
    assert seconds(job(ends_in_s=80_000)) == PATIENCE_S
    assert seconds(job()) == PATIENCE_S
    assert seconds(None, executor="local", signals=TERM) == PATIENCE_S


def test_a_save_that_takes_long_gets_more_patience() -> None:
    facts = StopFacts(
        executor="local", job=None, restarts=0, kill_wait_s=0, lead_s=0, signals=TERM, save_s=200
    )
    assert seconds_to_secure(facts, now=NOW) == 2000


def test_without_an_answer_the_signal_tells_how_long_there_is() -> None:
    assert 20 <= seconds(None, signals=USR2) < 40
    assert seconds(None, signals=TERM, kill_wait_s=10) < 10
    assert seconds(None, signals=USR2 | TERM, kill_wait_s=10) < 10
