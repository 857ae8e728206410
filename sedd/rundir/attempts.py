"""Parse the attempts of a run from its events: pure."""

import dataclasses
import datetime as dt
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from sedd.rundir.events import STAYS, Event


class Cause(StrEnum):
    """What ended an attempt."""

    COMPLETED = "completed"
    PREEMPTED = "preempted"
    TIME_LIMIT = "time_limit"
    MOVED = "moved"
    """`sedd requeue` asked a running run to go on elsewhere."""
    NODE_FAULT = "node_fault"
    KILLED = "killed"
    """No final event: SIGKILL, out of memory, node lost."""
    CRASHED = "crashed"
    HUNG = "hung"
    """Its training made no progress for too long, and was ended for it."""
    DISK_FULL = "disk_full"
    """Nothing could be saved any more: it waits in the queue for space."""
    PAUSED = "paused"
    """It stands at a rung of its halving sweep, and its fellows decide whether it goes on."""
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """Its user stopped `sedd train` in the foreground: it saved, and continues when they start it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One start of a run."""

    number: int
    started: dt.datetime
    job_id: str
    host: str
    pid: int
    """Process id of the job's entry on `host`."""
    first_step: int
    """Step it resumed from; 0 for a fresh start."""
    last_step: int
    """Newest step known to be kept: in a checkpoint, or in a copy on a node that the next attempt started from."""
    ended: dt.datetime | None
    cause: Cause | None
    """None: no final event yet. It runs, or was killed; only its process can show which."""
    error: str | None
    """Last line of the traceback, where there was one."""
    repeats: int = 0
    """Steps beyond `first_step` that attempts before it were seen to take, and did not keep."""
    slow_hosts: tuple[str, ...] = ()
    """Nodes on which a rank was slower than the others, or a card than it used to be."""
    faulty_hosts: tuple[str, ...] = ()
    """Nodes that are known to have been at fault in it."""
    has_begun: bool = True
    """Whether it came to train: it has resumed or saved. What one kept that was killed before is not known."""
    next_in_job: bool = False
    """Whether the next attempt starts in the same job."""
    from_copy: bool = False
    """Whether it resumed from a copy on its node, which a later job may not find."""
    in_foreground: bool = False
    """Whether its user started it in their terminal: until then nobody had asked for it."""
    checkpoint_step: int = 0
    """Newest step known to be in a checkpoint, which every later attempt finds."""
    beat_before: dt.datetime | None = None
    """The last heartbeat of the attempt before, as this one found it: of a killed one the end that is known best."""


def parse_attempts(events: Iterable[Event]) -> tuple[Attempt, ...]:
    """The attempts in order; events before the first are left out.

    An attempt without a final event that a later one followed was killed, as was one that was over without one when
    its run was cancelled. Events of an attempt after a newer one has begun (its node was lost, and is back) do
    not count.
    """
    groups = events_by_attempt(events)
    last = len(groups) - 1
    found = [_attempt(group, is_last=k == last) for k, group in enumerate(groups)]
    return tuple(_before(*pair) for pair in itertools.pairwise(found)) + tuple(found[last:])


def _before(attempt: Attempt, following: Attempt) -> Attempt:
    """An attempt with what the one after it shows: it had kept what that one continued from."""
    step = following.first_step
    shared = 0 if following.from_copy else step
    if step <= attempt.last_step and shared <= attempt.checkpoint_step:
        return attempt
    return dataclasses.replace(
        attempt,
        last_step=max(attempt.last_step, step),
        checkpoint_step=max(attempt.checkpoint_step, shared),
    )


def saved_step(attempts: Sequence[Attempt]) -> int:
    """The step from which a run goes on, as far as its events tell: its newest attempt may have ended before that.

    What an earlier attempt kept on a node alone does not count.
    """
    newest = attempts[-1] if attempts else None
    if newest is not None and newest.has_begun:
        return newest.last_step
    begun = [attempt for attempt in attempts if attempt.has_begun]
    return next((a.checkpoint_step for a in reversed(begun) if a.checkpoint_step), 0)


def events_by_attempt(events: Iterable[Event]) -> list[list[Event]]:
    """The events of each attempt, from its start on; those before the first, and latecomers, are left out."""
    groups: list[list[Event]] = []
    for event in events:
        if event.event == "attempt_started":
            groups.append([event])
        elif groups and event.attempt == groups[-1][0].attempt:
            groups[-1].append(event)
    return groups


def gpus_in_foreground(events: Sequence[Event]) -> int | None:
    """How many GPUs train a run that was last started in the foreground; None for others, of which the manifest tells.

    The manifest has what the spec asks for, while torchrun starts as many processes as its user wants.
    """
    placed = next((e for e in reversed(events) if e.event in ("submitted", "attempt_started")), None)
    if placed is None or placed.event == "submitted" or placed.get("executor") != "foreground":
        return None
    gpus = placed.get("gpus")
    return gpus if isinstance(gpus, int) else None


def starts_in_foreground(event: Event) -> bool:
    """Whether a user starts an attempt in their terminal (`sedd train`): nothing was queued before it."""
    return event.event == "attempt_started" and event.get("executor") == "foreground"


def is_cancelled(events: Sequence[Event]) -> bool:
    """Whether the user cancelled the run, and did not submit it again since."""
    last = [e.event for e in events if e.event in ("cancelled", "submitted")]
    return bool(last) and last[-1] == "cancelled"


def was_over_when_cancelled(events: Sequence[Event]) -> bool:
    """Whether the newest event is that the run was cancelled when nothing of it was alive: it has no job any more."""
    moves = [e for e in events if e.event not in STAYS]
    return bool(moves) and moves[-1].event == "cancelled" and bool(moves[-1].get("over"))


def is_completed(events: Iterable[Event]) -> bool:
    """Whether the run has reached its last step, and was not given more steps since."""
    last = [e.event for e in events if e.event in ("completed", "extended")]
    return bool(last) and last[-1] == "completed"


def is_unsubmitted(events: Iterable[Event]) -> bool:
    """Whether the run still waits to be submitted: a point of a sweep for which the site had no place."""
    return all(e.event == "preflight" for e in events)


LEFT_OUT_BY = "plan"
"""`by` of the `cancelled` event of a stage that is left out: what it waits for has not happened."""


def is_left_out(events: Sequence[Event]) -> bool:
    """Whether the run is a stage that its plan does not need: as good as done."""
    return is_cancelled(events) and any(
        e.event == "cancelled" and e.get("by") == LEFT_OUT_BY for e in events[-1:]
    )


STRAGGLERS, CARD_SPEED = "stragglers", "card_speed"
"""Names of the findings in `preflight` events that call a node slow: of a training, and of the node preflight."""


def is_paused(events: Sequence[Event]) -> bool:
    """Whether the run waits at a rung of its halving sweep, without a job."""
    return _newest_of(events, "paused", "stopped", "submitted", "attempt_started", "cancelled") == "paused"


def is_stopped(events: Sequence[Event]) -> bool:
    """Whether the rule of its halving sweep has ended the run."""
    return _newest_of(events, "stopped", "submitted", "attempt_started") == "stopped"


def _newest_of(events: Sequence[Event], *names: str) -> str:
    return next((e.event for e in reversed(events) if e.event in names), "")


MOVED_BY = "sedd requeue"
"""`by` of the `stop_requested` event with which `sedd requeue` announces its signal."""


def slowest_save_s(events: Iterable[Event]) -> float | None:
    """The longest that a checkpoint of this run took: what the warning before a time limit must leave."""
    return max(save_times_s(events), default=None)


def save_times_s(events: Iterable[Event]) -> list[float]:
    """How long each checkpoint of the run took, in order."""
    return [float(e.get("seconds", 0)) for e in events if e.event == "checkpoint"]


LAST_WORDS = ("requeued", "gave_up", "completed", "cancelled", "paused")
"""Events that end an attempt."""


def _attempt(group: Sequence[Event], *, is_last: bool) -> Attempt:
    """One pass: a monitor does this for tens of thousands of attempts."""
    start = group[0]
    resumed = failure = word = None
    saved, slow, faulty, was_over = [], [], [], not is_last
    for event in group:
        kind = event.event
        if kind == "checkpoint":
            saved.append(int(event.fields.get("step", 0)))
        elif kind == "resumed":
            resumed = resumed or event
        elif kind == "preflight":
            slow += _slow_hosts(event)
        elif kind == "failed":
            failure = event
            faulty += [str(event.get("host"))] if blames_node(event) else []
        elif kind == "cancelled" and event.fields.get("over"):
            was_over = True
        elif kind in LAST_WORDS:
            word = word or event
    first = int(resumed.get("step", 0)) if resumed else 0
    from_copy = resumed is not None and resumed.get("tier") == "node"
    end = word or failure
    killed = Cause.KILLED if was_over else None
    return Attempt(
        number=start.attempt,
        started=start.t,
        job_id=str(start.get("job_id", "")),
        host=str(start.get("host", "")),
        pid=int(start.get("pid", 0)),
        first_step=first,
        last_step=max(saved, default=first),
        ended=end.t if end else None,
        cause=_cause(end) if end else killed,
        error=failure.get("error") if failure else None,
        repeats=int(resumed.get("repeats", 0)) if resumed else 0,
        has_begun=resumed is not None or bool(saved),
        next_in_job=bool(word and word.get("in_job")),
        from_copy=from_copy,
        in_foreground=starts_in_foreground(start),
        checkpoint_step=max(saved, default=0 if from_copy else first),
        beat_before=_moment(start.get("last_beat")),
        slow_hosts=tuple(dict.fromkeys(slow)),
        faulty_hosts=tuple(dict.fromkeys(faulty)),
    )


def _moment(text: object) -> dt.datetime | None:
    try:
        return dt.datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None


def blames_node(failed: Event) -> bool:
    """Whether a `failed` event blames the node that it names; where ranks were missed, another event says who is."""
    return failed.get("cause") == Cause.NODE_FAULT and bool(failed.get("host")) and not failed.get("absent")


def _slow_hosts(event: Event) -> list[str]:
    found = [f for f in event.get("findings") or () if isinstance(f, dict) and f.get("status") == "WARN"]
    named = [f.get("host") or event.get("host") for f in found if f.get("check") in (STRAGGLERS, CARD_SPEED)]
    return [str(host) for host in named if host]


def _cause(end: Event) -> Cause:
    named = end.event if end.event in ("completed", "cancelled", "paused") else end.get("cause")
    return _CAUSES.get(named, Cause.CRASHED) if isinstance(named, str) else Cause.CRASHED


_CAUSES = {cause.value: cause for cause in Cause}
