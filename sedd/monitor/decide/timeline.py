"""The attempts of a run one by one, with their waits and losses; what is not known yet is left out: pure."""

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from sedd.monitor.decide.snapshot import RunView
from sedd.monitor.decide.state import State
from sedd.monitor.read.facts import RunFacts
from sedd.monitor.read.history import lost_steps, queued_s
from sedd.rundir.attempts import Attempt, Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class AttemptRow:
    """One attempt as a row of the timeline.

    Attributes:
        queued_s: how long it waited before it started.
        in_job: it started in the job of the attempt before.
        lasted_s: how long it ran: until now if it still runs, to its last heartbeat where no event says when it ended.
        first_step, last_step: None while an attempt is starting and has not reported where it resumes; after its
            end, None where it is unknown how far it came.
        lost: steps that were taken and not kept, as far as is known; None until the next attempt has reported
            where it resumes.
        cause: what ended it; None while it runs.
    """

    number: int
    started: dt.datetime
    host: str
    queued_s: float | None
    in_job: bool
    lasted_s: float | None
    first_step: int | None
    last_step: int | None
    lost: int | None
    cause: Cause | None


def timeline(facts: RunFacts, view: RunView, *, now: dt.datetime) -> tuple[AttemptRow, ...]:
    """The attempts in order."""
    attempts = facts.history.attempts
    waits = queued_s(facts.history)
    in_job = [False, *(a.next_in_job for a in attempts)][: len(attempts)]
    rows = []
    for number, (attempt, (first, last, lost), wait, here) in enumerate(
        zip(attempts, _steps(facts, view), waits, in_job, strict=True)
    ):
        is_newest = attempt is attempts[-1]
        seen = (
            (now if view.is_live else view.heartbeat_t)
            if is_newest
            else _last_beat(*attempts[number : number + 2])
        )
        end = attempt.ended or seen
        unrecorded = _UNRECORDED_CAUSE.get(view.state) if is_newest else None
        rows.append(
            AttemptRow(
                number=attempt.number,
                started=attempt.started,
                host=attempt.host,
                queued_s=wait,
                in_job=here,
                lasted_s=max(0.0, (end - attempt.started).total_seconds()) if end else None,
                first_step=first,
                last_step=last,
                lost=lost,
                cause=attempt.cause or unrecorded,
            )
        )
    return tuple(rows)


def _last_beat(attempt: Attempt, following: Attempt) -> dt.datetime | None:
    """When an attempt was last heard of, as the one after it noted."""
    beat = following.beat_before
    return beat if beat is not None and beat >= attempt.started else None


def _steps(facts: RunFacts, view: RunView) -> Iterator[tuple[int | None, int | None, int | None]]:
    """(first, last, lost) of each attempt."""
    attempts = facts.history.attempts
    losses = lost_steps(attempts)
    trained = max((k for k, attempt in enumerate(attempts) if _has_begun(attempt, facts)), default=0)
    for k, attempt in enumerate(attempts):
        if k < trained and (attempt.has_begun or k == 0):
            resumed_at = next((later.first_step for later in attempts[k + 1 :] if later.has_begun), 0)
            reached = max(attempt.last_step, resumed_at + losses[k])
            yield attempt.first_step, reached if attempt.has_begun or reached else None, losses[k]
        elif k == trained:
            is_newest = k == len(attempts) - 1
            yield _steps_of_trained(attempt, facts, view, is_newest=is_newest)
        else:
            yield None, None, 0


def _has_begun(attempt: Attempt, facts: RunFacts) -> bool:
    """Whether an attempt has reported where it starts: by its events, or a heartbeat of its work.

    An attempt that finds no checkpoint starts at step 0 and reports no step.
    """
    beat = facts.beat
    is_working = beat is not None and beat.attempt == attempt.number and beat.phase not in _BEFORE_WORK
    return attempt.has_begun or is_working


def _steps_of_trained(
    attempt: Attempt, facts: RunFacts, view: RunView, *, is_newest: bool
) -> tuple[int, int | None, int | None]:
    """Of the newest attempt that has begun: where it started, how far it came, what of it is lost."""
    kept = max(attempt.last_step, view.checkpoint_step or 0)
    beat = facts.beat
    reached = view.step if is_newest else None
    if not is_newest and beat is not None and beat.attempt == attempt.number:
        reached = max(beat.step, kept)
    if reached is None:
        # A later attempt's heartbeat has replaced its own: only an orderly end has kept every step.
        return attempt.first_step, *((kept, 0) if attempt.cause in _SAVED else (None, None))
    last, unsaved = max(attempt.last_step, reached), max(0, reached - kept)
    if not unsaved or (is_newest and view.is_live):
        return attempt.first_step, last, 0
    return attempt.first_step, last, unsaved if view.state.is_final else None


_BEFORE_WORK = ("starting", "preflight")
_SAVED = (Cause.COMPLETED, Cause.PREEMPTED, Cause.TIME_LIMIT, Cause.MOVED, Cause.PAUSED, Cause.INTERRUPTED)
"""Ends before which the state is saved."""
_UNRECORDED_CAUSE = {State.LOST: Cause.KILLED, State.CANCELLED: Cause.CANCELLED}
"""What ended an attempt that had no last word, by the state of its run."""
