"""What follows from the end of an attempt, as a table: facts in, decision out."""

import datetime as dt
import signal

import pytest

from sedd.cluster.jobs import JobFact
from sedd.cluster.states import JobState
from sedd.job.causes import Ending, SlurmFacts
from sedd.job.decision import Decision, EndingFacts, decide
from sedd.job.final_events import has_ended
from sedd.rundir.attempts import Cause
from sedd.rundir.events import Event
from sedd.rundir.exits import Exit
from sedd.spec.retry import RetrySpec

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
STARTED = Event(NOW, "attempt_started", 1, {"job_id": "7", "host": "a", "pid": 1})
SAVED = Event(NOW, "checkpoint", 1, {"step": 20, "reason": "stop", "seconds": 1})
LIMIT = JobFact(
    job_id="7", state=JobState.RUNNING, starts_at=NOW - dt.timedelta(seconds=110), time_limit_s=120
)
PREEMPTED = JobFact(job_id="7", state=JobState.RUNNING, preempted_at=NOW)


def decided(
    exit_code: int | None,
    *events: Event,
    job: JobFact | None = None,
    signals: set[int] = frozenset(),  # type: ignore[assignment] # read only
    error: str | None = None,
    executor: str = "slurm",
) -> Decision:
    slurm = SlurmFacts(job=job, restarts=0, lead_s=30) if executor == "slurm" else None
    ending = Ending(exit_code=exit_code, signals=frozenset(signals), time_left_s=None, rank=0, error=error)
    facts = EndingFacts(attempt=1, ending=ending, events=(STARTED, *events), job_id="7", slurm=slurm, now=NOW)
    return decide(facts, RetrySpec())


def test_a_training_that_hangs_after_its_save_goes_on_in_another_attempt() -> None:
    for job, cause in ((LIMIT, Cause.TIME_LIMIT), (PREEMPTED, Cause.PREEMPTED)):
        decision = decided(None, SAVED, job=job, signals={signal.SIGUSR2})
        assert (decision.cause, decision.event) == (cause, "requeued")
        assert decision.next is not None
        assert decision.failure is None
        assert decision.fields["step"] == 20
        assert "killed" in decision.fields["detail"]


def test_a_step_longer_than_the_walltime_reaches_the_stop_for_lack_of_progress() -> None:
    events: list[Event] = []
    for number in range(1, 10):
        started = Event(NOW, "attempt_started", number, {"job_id": "7", "host": "a"})
        facts = EndingFacts(
            attempt=number,
            ending=Ending(exit_code=None, signals=frozenset({signal.SIGUSR2}), time_left_s=None, rank=0),
            events=(*events, started),
            job_id="7",
            slurm=SlurmFacts(job=LIMIT, restarts=number - 1, lead_s=30),
            now=NOW,
        )
        decision = decide(facts, RetrySpec(without_progress=3))
        assert decision.event is not None
        events += [started, Event(NOW, decision.event, number, decision.fields)]
        if decision.next is None:
            break
    assert [e.event for e in events if e.event != "attempt_started"] == 3 * ["requeued"] + ["gave_up"]
    assert "saved no step" in events[-1].get("detail")
    assert not has_ended(events, 1), "the next attempt gives its processes time to end"


@pytest.mark.parametrize(
    ("exit_code", "job", "signals", "cause", "event"),
    [
        (Exit.COMPLETED, None, set(), Cause.COMPLETED, "completed"),
        (Exit.STOPPED, PREEMPTED, {signal.SIGTERM}, Cause.PREEMPTED, "requeued"),
        (Exit.STOPPED, LIMIT, {signal.SIGUSR2}, Cause.TIME_LIMIT, "requeued"),
        (Exit.NODE_FAULT, None, set(), Cause.NODE_FAULT, "requeued"),
        (Exit.DISK_FULL, None, set(), Cause.DISK_FULL, "requeued"),
        (-signal.SIGKILL, None, set(), Cause.KILLED, "requeued"),
        (1, None, set(), Cause.CRASHED, "requeued"),
        (None, JobFact(job_id="7", state=JobState.CANCELLED), {signal.SIGTERM}, Cause.CANCELLED, "cancelled"),
    ],
)
def test_each_end_has_its_cause_and_its_event(
    exit_code: int | None, job: JobFact | None, signals: set[int], cause: Cause, event: str
) -> None:
    decision = decided(exit_code, job=job, signals=signals)
    assert (decision.cause, decision.event) == (cause, event)
    assert (decision.next is not None) == (event == "requeued")


def test_sigkill_is_named_only_after_signal_9() -> None:
    killed, early = decided(-signal.SIGKILL), decided(1, error="exit code 1 before its first line: no conda")
    assert killed.failure is not None
    assert "SIGKILL" in killed.failure["error"]
    assert early.failure is not None
    assert early.failure["error"] == "exit code 1 before its first line: no conda"
    assert early.cause is Cause.CRASHED


def test_what_a_rank_has_recorded_itself_is_not_recorded_again() -> None:
    failed = Event(NOW, "failed", 1, {"cause": "crashed", "error": "ValueError", "rank": 0})
    assert decided(1, failed).failure is None
    other = Event(NOW, "failed", 1, {"cause": "crashed", "error": "ValueError", "rank": 3})
    assert decided(1, other).failure is not None


def test_a_cancellation_that_is_recorded_is_not_recorded_again() -> None:
    cancelled = (Event(NOW, "submitted", 0, {}), Event(NOW, "cancelled", 1, {"by": "ada"}))
    assert decided(Exit.STOPPED, *cancelled, signals={signal.SIGTERM}).event is None
