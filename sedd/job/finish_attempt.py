"""The end of an attempt: gather the facts once, decide, then act: record it, and ask for the next attempt."""

import dataclasses
import datetime as dt
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from sedd.cluster.scontrol import query_hostnames
from sedd.errors import FORBIDDEN, REFUSED, ClusterError
from sedd.job.attempt import Task
from sedd.job.causes import Ending, SlurmFacts, in_newest_attempt, is_stop
from sedd.job.decision import Decision, EndingFacts, decide
from sedd.job.final_events import PATIENCE_S, record_event, record_event_with_retry
from sedd.job.next_attempt import ensure_next_attempt, nodes_without_record, starts_without_record
from sedd.job.own_job import query_job_fact
from sedd.job.retry import MAX_DELAY_S, Retry
from sedd.rundir.attempts import Cause
from sedd.rundir.events import Event, refusal
from sedd.rundir.fence import newest_attempt, require_newest_in
from sedd.rundir.heartbeat import read_heartbeat
from sedd.units import counted

_NAMES_TIMEOUT_S = 5.0
_SAVED = (Cause.COMPLETED, Cause.PAUSED)
"""Ends after which nothing is left to train, for the moment or for good."""
_SAVED_PATIENCE_S = 150.0
"""For space to record such an end: another attempt would record it no sooner, after a pause of SLURM and a start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptResult:
    """What becomes of the run."""

    attempt: int
    cause: Cause
    next: Retry | None
    """None: nothing follows."""
    starts_in_job: bool = False
    """Whether the next attempt starts in this job; else the job is requeued, or another continues it."""
    left_out: frozenset[str] = frozenset()
    """Nodes of this job on which the next attempt in it does not train."""

    @property
    def exit_code(self) -> int:
        """Of the job entry, and so of the job."""
        return 0 if self.next or self.cause in (*_SAVED, Cause.CANCELLED) else 1


def finish_attempt(
    task: Task, ending: Ending, events: Sequence[Event], *, attempt: int, has_entries: bool = True
) -> AttemptResult:
    """Find the cause of the attempt's end, record it, and secure the next attempt where one is due.

    `events` are the run's, read since the attempt ended. `has_entries`: the job's entries are there, and could begin
    another attempt in it.

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
        has_entries=has_entries,
        spare_nodes=task.experiment.resources.spare_nodes,
        host=task.environment.host,
        copied_step=_copied_step(task, attempt),
        nodes=_nodes_if_missed(task, events),
        ranks_per_node=task.experiment.resources.ranks_per_node,
    )
    return _act(task, facts, decide(facts, task.experiment.retry))


def finish_unrecorded(task: Task, events: Sequence[Event]) -> AttemptResult:
    """Finish an attempt whose outcome could not be written: with a full disk another attempt follows later.

    None follows where this user may not write: no waiting mends that; `sedd requeue` revives the run. What this node
    has mounted for reading alone another one may write: under SLURM the next attempt goes there, unless more nodes
    than `retry.node_faults` allows have it so: then the fault follows the run.

    Until it has begun, minutes later, whoever follows the run does not learn that it has ended. SLURM's pause has to
    be sat out, since a job that skips it would have to be recorded first; and nobody is left here to try once more.
    """
    attempt, is_slurms = newest_attempt(events), task.environment.executor == "slurm"
    if refusal(task.run.events, codes=FORBIDDEN if is_slurms else REFUSED):
        return AttemptResult(attempt=attempt, cause=Cause.CRASHED, next=None)
    is_nodes = refusal(task.run.events) is not None
    cause = Cause.NODE_FAULT if is_nodes else Cause.DISK_FULL
    avoid = nodes_without_record(task, events) if is_nodes else ()
    spent, allowed = min(len(avoid), starts_without_record(task, events)), task.experiment.retry.node_faults
    if spent > allowed:
        print(
            f"given up: {task.run.path} is on a read-only file system on {counted(spent, 'node')} "
            f"({', '.join(avoid)}); retry.node_faults allows {allowed}. Once nodes may write there: "
            f"sedd requeue {task.run.id}",
            flush=True,
        )
        return AttemptResult(attempt=attempt, cause=cause, next=None)
    why = "a read-only file system on this node" if is_nodes else "disk or quota full"
    if is_slurms and not ensure_next_attempt(
        task, events, attempt=attempt, cause=cause, avoid=avoid, may_pause=True
    ):
        return AttemptResult(attempt=attempt, cause=cause, next=None)
    return AttemptResult(
        attempt=attempt,
        cause=cause,
        next=Retry(detail=why, delay_s=MAX_DELAY_S, avoid_hosts=avoid),
        starts_in_job=not is_slurms,
    )


def leave_job(task: Task, events: Sequence[Event], result: AttemptResult, *, why: str) -> AttemptResult:
    """Secure the next attempt by SLURM where it was to start in this job, and cannot."""
    print(f"the next attempt does not start in this job: {why}", flush=True)
    record_event(task.run, "requeued", attempt=result.attempt, cause=result.cause, detail=why)
    avoid = result.next.avoid_hosts if result.next else ()
    is_secured = ensure_next_attempt(task, events, attempt=result.attempt, cause=result.cause, avoid=avoid)
    return AttemptResult(attempt=result.attempt, cause=result.cause, next=result.next if is_secured else None)


def query_slurm_facts(task: Task, events: Sequence[Event]) -> SlurmFacts | None:
    """What SLURM shows of the job now; None under the local executor."""
    if task.environment.executor != "slurm":
        return None
    node = task.environment
    return SlurmFacts(job=query_job_fact(task, events), restarts=node.restarts, lead_s=node.lead_s)


def _nodes_if_missed(task: Task, events: Sequence[Event]) -> tuple[str, ...]:
    """The nodes of the newest attempt in the order of their ranks, if ranks were missed where all meet."""
    newest, resources = in_newest_attempt(events), task.experiment.resources
    if not any(e.event == "failed" and e.get("absent") for e in newest):
        return ()
    if resources.all_nodes == 1:
        return (task.environment.host,)
    try:
        names = query_hostnames(os.environ.get("SLURM_JOB_NODELIST", ""), timeout_s=_NAMES_TIMEOUT_S)
    except ClusterError as e:
        print(f"cannot tell on which nodes the missed ranks are: {e.message}", flush=True)
        return ()
    left_out = (newest[0].get("left_out") or {}).values()
    return tuple(name for number, name in enumerate(names) if number not in left_out)[: resources.nodes]


def _copied_step(task: Task, attempt: int) -> int:
    beat = read_heartbeat(task.run.heartbeat)
    return (beat.local_step or 0) if beat is not None and beat.attempt == attempt else 0


def _act(task: Task, facts: EndingFacts, decision: Decision) -> AttemptResult:
    """Record what was decided, then secure the next attempt."""
    for failure in filter(None, (decision.failure, *decision.missed)):
        record_event(task.run, "failed", attempt=facts.attempt, **failure)
    end = AttemptResult(attempt=facts.attempt, cause=decision.cause, next=None)
    if decision.next is None:
        return end if _record_last(task, facts, decision) else finish_unrecorded(task, facts.events)
    following = dataclasses.replace(
        end, next=decision.next, starts_in_job=decision.starts_in_job, left_out=decision.left_out
    )
    if facts.slurm is not None and decision.starts_in_job:
        # Where the other ranks cannot read that the next attempt starts here, SLURM starts them anew.
        if record_event_with_retry(task.run, "requeued", attempt=facts.attempt, **decision.fields):
            return following
    else:
        record_event(task.run, "requeued", attempt=facts.attempt, **decision.fields)
    if facts.slurm is None:
        return following
    is_secured = ensure_next_attempt(
        task,
        facts.events,
        attempt=facts.attempt,
        cause=decision.cause,
        avoid=decision.next.avoid_hosts,
        may_pause=decision.next.delay_s > 0,
    )
    return dataclasses.replace(following, starts_in_job=False) if is_secured else end


def _record_last(task: Task, facts: EndingFacts, decision: Decision) -> bool:
    """Record that the run is over, or pauses; False where the event of one that has saved could not be written.

    Its next attempt then finds nothing left to do, and records that.
    """
    if decision.event is None:
        return True
    is_saved = decision.cause in _SAVED
    # The batch script is not told when SLURM ends the job, and a job entry that was told has no time to lose.
    may_wait = is_saved and facts.has_entries and not any(map(is_stop, facts.ending.signals))
    is_recorded = record_event_with_retry(
        task.run,
        decision.event,
        attempt=facts.attempt,
        patience_s=_SAVED_PATIENCE_S if may_wait else PATIENCE_S,
        is_unwanted=lambda: may_wait and _is_asked_to_leave(),
        **decision.fields,
    )
    return is_recorded or not is_saved


def _is_asked_to_leave() -> bool:
    """Whether a stop signal has come while they are held."""
    return any(map(is_stop, signal.sigpending()))
