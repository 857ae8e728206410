"""The end of an attempt: its last word in events.jsonl, and what the scheduler is asked to do next."""

import dataclasses
import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from sedd.cluster.scontrol import query_job
from sedd.errors import ClusterError
from sedd.job.attempt import Task
from sedd.job.causes import (
    Ending,
    SlurmFacts,
    by_exit,
    cause_of,
    describe_exit,
    in_newest_attempt,
    is_stop,
)
from sedd.job.final_events import record_event, record_event_with_retry
from sedd.job.next_attempt import ensure_next_attempt
from sedd.job.retry import MAX_DELAY_S, GiveUp, Retry, retry_decision
from sedd.rundir.attempts import Attempt, Cause, is_cancelled, parse_attempts
from sedd.rundir.events import Event, read_events
from sedd.rundir.exits import Exit
from sedd.rundir.fence import newest_attempt, require_newest
from sedd.rundir.layout import RunDir


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


def finish_attempt(task: Task, ending: Ending, *, attempt: int) -> AttemptResult:
    """Find the cause of the attempt's end, write its last word, and requeue a SLURM job where one is due.

    Raises:
        SupersededError: a newer attempt has begun; the last word is that one's to say.
    """
    run, number = task.run, attempt
    require_newest(run.events, attempt=attempt)
    _say_failure(run, ending, number)
    said = read_events(run.events)
    slurm = ask_slurm(task)
    cause = cause_of(ending, said, slurm, now=dt.datetime.now(dt.UTC))
    history = submission_history(said, job_id=task.place.job_id, cause=cause)
    step = history[-1].last_step if history else 0
    if cause is Cause.COMPLETED:
        if not record_event_with_retry(run, "completed", attempt=number, step=step):
            return finish_unrecorded(task)  # the next attempt finds nothing left to do, and says so
        return AttemptResult(cause=cause, next=None)
    if cause is Cause.CANCELLED:
        if not is_cancelled(said):
            record_event_with_retry(run, "cancelled", attempt=number, by="scancel")
        return AttemptResult(cause=cause, next=None)
    decision = retry_decision(history, task.experiment.retry)
    if isinstance(decision, GiveUp):
        record_event_with_retry(
            run, "gave_up", attempt=number, cause=cause, step=step, detail=decision.detail
        )
        return AttemptResult(cause=cause, next=None)
    record_event(run, "requeued", attempt=number, cause=cause, step=step, detail=decision.detail)
    if slurm is not None and not ensure_next_attempt(task, decision.avoid_hosts, attempt=number, cause=cause):
        return AttemptResult(cause=cause, next=None)
    return AttemptResult(cause=cause, next=decision)


def finish_unrecorded(task: Task) -> AttemptResult:
    """The end of an attempt of which nothing can be said, because the disk is full: another shall follow later."""
    cause = Cause.DISK_FULL
    attempt = newest_attempt(read_events(task.run.events))
    if ask_slurm(task) is not None and not ensure_next_attempt(task, (), attempt=attempt, cause=cause):
        return AttemptResult(cause=cause, next=None)
    return AttemptResult(cause=cause, next=Retry(detail="disk full", delay_s=MAX_DELAY_S, avoid_hosts=()))


def submission_history(said: Sequence[Event], *, job_id: str, cause: Cause | None = None) -> list[Attempt]:
    """The attempts of one submission, so that a user's next one starts with fresh budgets.

    A job that continues another, because SLURM would not requeue that one, belongs to the same submission. `cause`,
    where given, is that of the newest attempt, whose last word is not written yet. The host of an attempt is that of
    the rank that failed, where one did.
    """
    jobs = {job_id}
    for event in reversed(said):
        if event.event == "submitted" and event.get("job_id") in jobs and event.get("continues"):
            jobs.add(str(event.get("continues")))
    attempts = [attempt for attempt in parse_attempts(said) if attempt.job_id in jobs]
    if cause is not None and attempts:
        attempts[-1] = dataclasses.replace(attempts[-1], cause=cause)
    faulty = {e.attempt: e.get("host") for e in said if e.event == "failed" and e.get("host")}
    return [dataclasses.replace(a, host=faulty.get(a.number, a.host)) for a in attempts]


def ask_slurm(task: Task) -> SlurmFacts | None:
    """What SLURM says of the job now; None under the local executor."""
    if task.place.executor != "slurm":
        return None
    try:
        job = query_job(task.place.job_id, timeout_s=10)
    except ClusterError as e:
        print(f"SLURM does not say what it wants: {e.message}", flush=True)
        job = None
    return SlurmFacts(job=job, restarts=task.place.restarts, lead_s=task.place.lead_s)


def _say_failure(run: RunDir, ending: Ending, number: int) -> None:
    """Speak for a process that died without a word of its own."""
    if ending.exit_code in (Exit.COMPLETED, Exit.STOPPED) or is_stop(-ending.exit_code):
        return  # it ended well, or was asked to leave before it could listen
    said = in_newest_attempt(read_events(run.events))
    if any(e.event == "failed" and e.get("rank") == ending.rank for e in said):
        return
    cause, error = by_exit(ending.exit_code), describe_exit(ending.exit_code)
    if cause is Cause.KILLED and not ending.signals:
        error += " (kill -9, or out of memory)"
    record_event(run, "failed", attempt=number, cause=cause, error=error, rank=ending.rank)
