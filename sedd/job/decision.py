"""What follows from the end of an attempt: facts in, decision out. Pure."""

import dataclasses
import datetime as dt
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sedd.cluster.states import JobState
from sedd.cluster.stopping import Stopping, stopping
from sedd.job.causes import (
    Ending,
    SlurmFacts,
    by_exit,
    cause_of,
    describe_exit,
    in_newest_attempt,
    is_stop,
    time_left_s,
)
from sedd.job.retry import GiveUp, Retry, retry_decision
from sedd.rundir.attempts import (
    Attempt,
    Cause,
    blames_node,
    is_cancelled,
    parse_attempts,
    saved_step,
)
from sedd.rundir.events import Event
from sedd.rundir.exits import ENDED_WELL, Exit
from sedd.spec.retry import RetrySpec


@dataclass(frozen=True, slots=True, kw_only=True)
class EndingFacts:
    """All that is known at the end of an attempt, gathered once."""

    attempt: int
    ending: Ending
    events: tuple[Event, ...]
    job_id: str
    slurm: SlurmFacts | None
    """None under the local executor."""
    now: dt.datetime
    has_entries: bool = True
    """Whether the job's entries are there, and could begin another attempt in it; its batch script could not."""
    spare_nodes: int = 0
    """Nodes that the job was given beyond those that train."""
    host: str = ""
    """Node of rank 0's entry, which leads the attempt."""
    copied_step: int = 0
    """Newest step that the attempt has copied to rank 0's node, as far as its heartbeat tells."""
    nodes: tuple[str, ...] = ()
    """Names of the nodes that trained, in the order of their ranks, where some rank was missed; none: not known."""
    ranks_per_node: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What is to be recorded, and whether another attempt follows."""

    cause: Cause
    failure: Mapping[str, Any] | None
    """Fields of a `failed` event for a process that ended without recording one."""
    missed: tuple[Mapping[str, Any], ...] = ()
    """The same for each node that is at fault because its ranks never came to where all meet."""
    event: str | None
    """The attempt's final event; None when it is recorded already."""
    fields: Mapping[str, Any]
    """Of the final event."""
    next: Retry | None
    starts_in_job: bool = False
    """Whether the next attempt starts in the job of this one, on its nodes."""
    left_out: frozenset[str] = frozenset()
    """Nodes of the job on which it does not train then."""


RESTART_S = 120.0
"""So much must be left before SLURM's warning for another attempt in the same job: starting takes some of it."""
_MAY_START_IN_JOB: dict[Cause, bool] = {
    Cause.KILLED: True,
    Cause.CRASHED: True,
    Cause.HUNG: True,
    Cause.NODE_FAULT: True,  # where a spare node takes its place
    Cause.DISK_FULL: False,  # it waits for space without keeping nodes
    Cause.PREEMPTED: False,
    Cause.TIME_LIMIT: False,
    Cause.MOVED: False,
    Cause.COMPLETED: False,
    Cause.CANCELLED: False,
    Cause.INTERRUPTED: False,
}


def decide(facts: EndingFacts, policy: RetrySpec) -> Decision:
    """The cause of the end, the events that record it, and whether the run starts again."""
    failure = unrecorded_failure(facts)
    missed = tuple(missed_failures(facts))
    failed = (Event(facts.now, "failed", facts.attempt, fields) for fields in (failure, *missed) if fields)
    events = (*facts.events, *failed)
    facts = dataclasses.replace(facts, events=events)
    cause = cause_of(facts.ending, events, facts.slurm, now=facts.now)
    history = submission_history(events, job_id=facts.job_id, cause=cause)
    step = saved_step(parse_attempts(events))
    if cause is Cause.COMPLETED:
        return Decision(cause=cause, failure=None, event="completed", fields={"step": step}, next=None)
    if cause is Cause.CANCELLED:
        event = None if is_cancelled(events) else "cancelled"
        return Decision(
            cause=cause, failure=failure, missed=missed, event=event, fields={"by": "scancel"}, next=None
        )
    if cause is Cause.PAUSED:
        fields = {"step": step, "job_id": facts.job_id}
        return Decision(cause=cause, failure=None, event="paused", fields=fields, next=None)
    here = starts_in_job(facts, cause)
    if cause is Cause.CRASHED and _is_misfit(facts):
        following: Retry | GiveUp = GiveUp(detail="another attempt would meet the same")
    else:
        # The rank that continues on another node does not find the copies of this one.
        has_copies = here and facts.host not in unfit_nodes(facts.events)
        following = retry_decision(history, policy, copied_step=facts.copied_step if has_copies else 0)
    detail, alive = following.detail, {}
    if facts.ending.exit_code is None:
        detail += "; the training did not end in time, and was killed"
        alive = {"alive": True}  # when this is recorded: it is killed after the next attempt is secured
    fields = {"cause": cause, "step": step, "detail": detail, **alive}
    if isinstance(following, GiveUp):
        return Decision(
            cause=cause, failure=failure, missed=missed, event="gave_up", fields=fields, next=None
        )
    return Decision(
        cause=cause,
        failure=failure,
        missed=missed,
        event="requeued",
        fields=fields | ({"in_job": True} if here else {}),
        next=following,
        starts_in_job=here,
        left_out=unfit_nodes(facts.events) if here else frozenset(),
    )


def _is_misfit(facts: EndingFacts) -> bool:
    """Whether another attempt would meet the same: what one rank was given does not fit, whatever became of others."""
    failures = (e for e in in_newest_attempt(facts.events) if e.event == "failed")
    return facts.ending.exit_code == Exit.MISFIT or any(e.get("misfit") for e in failures)


def starts_in_job(facts: EndingFacts, cause: Cause) -> bool:
    """Whether an attempt that follows starts in this job.

    Without SLURM all do. Under SLURM those after a crash, a kill or a hang do, when the training has ended, nobody
    asks the job to leave, SLURM shows it as running, and its time limit leaves enough; and those after a node fault,
    where spare nodes are left to take the place of all faulty ones.
    """
    if facts.slurm is None:
        return True
    if not (facts.has_entries and _MAY_START_IN_JOB[cause]) or facts.ending.exit_code is None:
        return False
    unfit = unfit_nodes(facts.events)
    if cause is Cause.NODE_FAULT and not 0 < len(unfit) <= facts.spare_nodes:
        return False
    job = facts.slurm.job
    is_asked = any(map(is_stop, facts.ending.signals))
    if is_asked or job is None or job.state is not JobState.RUNNING:
        return False
    if stopping(job, restarts=facts.slurm.restarts) is not Stopping.NO:
        return False
    left_s = time_left_s(job, facts.now)
    return left_s is None or left_s - facts.slurm.lead_s >= RESTART_S


def unfit_nodes(events: Sequence[Event]) -> frozenset[str]:
    """Nodes of the job that the newest attempt left out, and those that were at fault in it."""
    newest = in_newest_attempt(events)
    earlier = (newest[0].get("left_out") or {}) if newest else {}
    return frozenset([*earlier, *(e.get("host") for e in newest if e.event == "failed" and blames_node(e))])


def missed_failures(facts: EndingFacts) -> Iterator[dict[str, Any]]:
    """Fields of a `failed` event for each node that is at fault, where ranks did not come to where all meet.

    At fault are the nodes that most nodes have missed. Who has missed all others, of two or more, counts itself in
    their place; who could not even reach the place of the meeting, itself as well.
    """
    reports = [e for e in in_newest_attempt(facts.events) if e.event == "failed" and e.get("absent")]
    votes: dict[str, set[str]] = {}
    for report in reports:
        voter = str(report.get("host"))
        missed = {node for rank in report.get("absent") if (node := _node_of(facts, int(rank)))}
        if len(missed) > 1 and missed | {voter} == set(facts.nodes):
            missed = {voter}
        for node in missed | ({voter} if report.get("cause") == Cause.NODE_FAULT else set()):
            votes.setdefault(node, set()).add(voter)
    most = max(map(len, votes.values()), default=0)
    for node in sorted(name for name, voters in votes.items() if len(voters) == most):
        rank = facts.nodes.index(node) * facts.ranks_per_node if node in facts.nodes else None
        error = f"{node} is taken to be at fault: its ranks and those of other nodes did not meet"
        yield {"cause": Cause.NODE_FAULT, "error": error, "rank": rank, "host": node}


def _node_of(facts: EndingFacts, rank: int) -> str | None:
    number = rank // facts.ranks_per_node
    return facts.nodes[number] if number < len(facts.nodes) else None


def unrecorded_failure(facts: EndingFacts) -> dict[str, Any] | None:
    """Fields of a `failed` event for a process that ended badly without recording one; else None."""
    ending = facts.ending
    code = ending.exit_code
    if code is None or code in ENDED_WELL or is_stop(-code):
        return None  # it ended well, or was asked to leave before it could listen
    newest = in_newest_attempt(facts.events)
    if any(e.event == "failed" and e.get("rank") == ending.rank for e in newest):
        return None
    tells_why = (e.get("absent") or not e.get("lost_peer") for e in newest if e.event == "failed")
    if code == Exit.PEER_LOST and any(tells_why):
        return None
    error = ending.error or describe_exit(code)
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL) and not ending.signals and ending.error is None:
        error += " (kill -9, or out of memory)"
    return {"cause": by_exit(code), "error": error, "rank": ending.rank}


def submission_history(events: Sequence[Event], *, job_id: str, cause: Cause | None = None) -> list[Attempt]:
    """The attempts of one submission, so that a user's next one starts with fresh budgets.

    A job that continues another, because SLURM would not requeue that one, belongs to the same submission. `cause`,
    where given, is that of the newest attempt, whose final event is not written yet.
    """
    jobs = {job_id}
    for event in reversed(events):
        if event.event == "submitted" and event.get("job_id") in jobs and event.get("continues"):
            jobs.add(str(event.get("continues")))
    attempts = [attempt for attempt in parse_attempts(events) if attempt.job_id in jobs]
    if cause is not None and attempts:
        attempts[-1] = dataclasses.replace(attempts[-1], cause=cause)
    return attempts
