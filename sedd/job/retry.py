"""Whether a run starts again after an attempt ended: a pure decision on its history."""

from collections.abc import Sequence
from dataclasses import dataclass

from sedd.rundir.attempts import Attempt, Cause
from sedd.spec.retry import RetrySpec
from sedd.units import counted

MAX_DELAY_S = 60.0
MAX_SLOW_HOSTS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """Another attempt follows."""

    detail: str
    delay_s: float
    """Seconds to wait where no queue does the waiting: nothing after progress, else doubling."""
    avoid_hosts: tuple[str, ...]
    """Nodes that the next attempt must not get."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """No attempt follows unless a user asks for one."""

    detail: str


def retry_decision(history: Sequence[Attempt], policy: RetrySpec, *, copied_step: int = 0) -> Retry | GiveUp:
    """What follows the last attempt of `history`, which holds those of one submission, oldest first.

    An attempt without a final event counts as killed. `copied_step` is the newest step that the last attempt has
    copied to its node, where the next one will look for it.
    """
    cause = history[-1].cause or Cause.KILLED
    if cause in (Cause.COMPLETED, Cause.CANCELLED):
        return GiveUp(detail=cause.value)
    budget = {Cause.CRASHED: policy.crashes, Cause.NODE_FAULT: policy.node_faults}.get(cause)
    spent = sum(attempt.cause is cause for attempt in history)
    if budget is not None and spent > budget:
        return GiveUp(detail=f"{_words(cause)} {counted(spent, 'time')}; retry allows {budget}")
    idle = _without_progress(history, copied_step)
    if idle > policy.without_progress:
        allowed = f"retry.without_progress allows {policy.without_progress}"
        return GiveUp(detail=f"{counted(idle, 'attempt')} in a row saved no new step; {allowed}")
    detail = _words(cause) if budget is None else f"{_words(cause)}, restart {spent} of {budget}"
    return Retry(
        detail=detail,
        delay_s=_delay_s(cause, idle),
        avoid_hosts=_hosts_to_avoid(history, policy),
    )


def _hosts_to_avoid(history: Sequence[Attempt], policy: RetrySpec) -> tuple[str, ...]:
    """Those at fault; and the newest of those that were slow, few enough that some are left."""
    faulty = [
        host for a in history if a.cause is Cause.NODE_FAULT for host in a.faulty_hosts or (a.host,) if host
    ]
    slow = [host for a in reversed(history) for host in a.slow_hosts] if policy.exclude_slow else []
    return tuple(dict.fromkeys([*faulty, *list(dict.fromkeys(slow))[:MAX_SLOW_HOSTS]]))


def _delay_s(cause: Cause, idle: int) -> float:
    if cause is Cause.DISK_FULL:
        return MAX_DELAY_S
    return min(MAX_DELAY_S, 2.0**idle) if idle else 0.0


def _without_progress(history: Sequence[Attempt], copied_step: int) -> int:
    """How many attempts in a row, up to the last, brought the run no further.

    One brings it further that leaves a later checkpoint than all before it, or from whose copy on the node the next
    attempt starts at a later step than any known before. Both are records, so there are no more such attempts than
    twice the steps, and no loop is endless: neither one over steps whose copies get lost with their job again and
    again, nor one in which some attempts end before they resume. Copies do not raise the record of checkpoints: what
    saves less than a lost copy held has made progress.

    What the last attempt copied shows only when the next one starts from it: until then that one is not counted.
    Those that a user moved on do not count, nor those without space on the disk: that is waited for.
    """
    idle = 0
    kept = in_checkpoint = history[0].first_step
    for number, attempt in enumerate(history, 1):
        is_further = attempt.last_step > kept or attempt.checkpoint_step > in_checkpoint
        is_open = number == len(history) and copied_step > kept
        is_free = is_open or attempt.cause in (Cause.MOVED, Cause.DISK_FULL)
        idle = 0 if is_further else idle + (not is_free)
        kept, in_checkpoint = max(kept, attempt.last_step), max(in_checkpoint, attempt.checkpoint_step)
    return idle


def _words(cause: Cause) -> str:
    return cause.value.replace("_", " ")
