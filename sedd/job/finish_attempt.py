"""The end of an attempt: gather the facts once, decide, then act: record it, and ask for the next attempt."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from sedd.job.attempt import Task
from sedd.job.causes import Ending, SlurmFacts
from sedd.job.decision import Decision, EndingFacts, decide
from sedd.job.final_events import record_event, record_event_with_retry
from sedd.job.next_attempt import ensure_next_attempt
from sedd.job.retry import MAX_DELAY_S, Retry
from sedd.job.watch import query_job_fact
from sedd.rundir.attempts import Cause
from sedd.rundir.events import Event
from sedd.rundir.fence import newest_attempt, require_newest_in


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptResult:
    """What becomes of the run."""

    cause: Cause
    next: Retry | None
    """None: nothing follows."""

    @property
    def exit_code(self) -> int:
        """Of the job entry, and so of the job."""
        return 0 if self.next or self.cause in (Cause.COMPLETED, Cause.CANCELLED) else 1


def finish_attempt(task: Task, ending: Ending, events: Sequence[Event], *, attempt: int) -> AttemptResult:
    """Find the cause of the attempt's end, record it, and secure the next attempt where one is due.

    `events` are the run's, read since the attempt ended.

    Raises:
        SupersededError: a newer attempt has begun, and it alone may record anything.
    """
    require_newest_in(events, attempt=attempt)
    facts = EndingFacts(
        attempt=attempt,
        ending=ending,
        events=tuple(events),
        job_id=task.environment.job_id,
        slurm=query_slurm_facts(task, events),
        now=dt.datetime.now(dt.UTC),
    )
    return _act(task, facts, decide(facts, task.experiment.retry))


def finish_unrecorded(task: Task, events: Sequence[Event]) -> AttemptResult:
    """Finish an attempt whose outcome could not be written (disk full): another attempt follows later."""
    if task.environment.executor == "slurm" and not ensure_next_attempt(
        task, events, attempt=newest_attempt(events), cause=Cause.DISK_FULL, may_pause=True
    ):
        return AttemptResult(cause=Cause.DISK_FULL, next=None)
    return AttemptResult(
        cause=Cause.DISK_FULL, next=Retry(detail="disk full", delay_s=MAX_DELAY_S, avoid_hosts=())
    )


def query_slurm_facts(task: Task, events: Sequence[Event]) -> SlurmFacts | None:
    """What SLURM shows of the job now; None under the local executor."""
    if task.environment.executor != "slurm":
        return None
    node = task.environment
    return SlurmFacts(job=query_job_fact(task, events), restarts=node.restarts, lead_s=node.lead_s)


def _act(task: Task, facts: EndingFacts, decision: Decision) -> AttemptResult:
    """Record what was decided, then secure the next attempt."""
    if decision.failure:
        record_event(task.run, "failed", attempt=facts.attempt, **decision.failure)
    result = AttemptResult(cause=decision.cause, next=decision.next)
    if decision.next is None:
        return result if _record_last(task, facts, decision) else finish_unrecorded(task, facts.events)
    record_event(task.run, "requeued", attempt=facts.attempt, **decision.fields)
    if facts.slurm is not None and not ensure_next_attempt(
        task,
        facts.events,
        attempt=facts.attempt,
        cause=decision.cause,
        avoid=decision.next.avoid_hosts,
        may_pause=decision.next.delay_s > 0,
    ):
        return AttemptResult(cause=decision.cause, next=None)
    return result


def _record_last(task: Task, facts: EndingFacts, decision: Decision) -> bool:
    """Record that the run is over; False where a completed run's event could not be written.

    Its next attempt then finds nothing left to do, and records that.
    """
    if decision.event is None:
        return True
    is_recorded = record_event_with_retry(task.run, decision.event, attempt=facts.attempt, **decision.fields)
    return is_recorded or decision.cause is not Cause.COMPLETED
