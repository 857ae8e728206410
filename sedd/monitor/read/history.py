"""Summarise a run's events, small enough to keep for ten thousand runs."""

import dataclasses
import datetime as dt
import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sedd.cluster.identity import JobIdentity, read_identity
from sedd.rundir.attempts import (
    LAST_WORDS,
    Attempt,
    Cause,
    gpus_in_foreground,
    is_cancelled,
    parse_attempts,
    starts_in_foreground,
)
from sedd.rundir.events import STAYS, Event, damaged_lines, parse_events


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A checkpoint, or a copy of the state on a node, as an event says."""

    t: dt.datetime
    step: int
    attempt: int


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What happened to a run so far.

    Attributes:
        submitted: first submission.
        job_noted: newest submission, which noted the job that waits since.
        revived: when a user let it go on after that, which had ended: by more steps, `sedd requeue` or `sedd train`.
        rested_s: seconds between the run's last sign of life and each of these.
        identity: what tells the run's newest SLURM job from others; None where there is none, or no event tells of it.
        gpus: how many it trains on in the foreground; None: as many as the manifest says.
        causes: how many attempts ended by each cause; completion is not counted.
        last: newest event that moved the run on (those of `STAYS` do not).
        copied: the copy on its node from which the newest attempt resumed, later than every checkpoint; else None.
        productive_s: seconds of training whose result was kept, the open attempt up to its newest checkpoint.
        in_copy_s: of these, what was trained before the newest attempt and is in that copy alone.
        training_since: when the newest attempt began to train, as far as events say.
        damaged: numbers of the lines of events.jsonl that are no events.
        findings: preflight's findings that were not OK, of the newest preflight on each side.
    """

    submitted: dt.datetime | None = None
    job_noted: dt.datetime | None = None
    revived: tuple[dt.datetime, ...] = ()
    rested_s: float = 0.0
    job_id: str = ""
    identity: JobIdentity | None = None
    host: str = ""
    gpus: int | None = None
    attempts: tuple[Attempt, ...] = ()
    causes: Mapping[Cause, int] = field(default_factory=dict)
    last: Event | None = None
    cancelled: bool = False
    saved: Saved | None = None
    copied: Saved | None = None
    productive_s: float = 0.0
    in_copy_s: float = 0.0
    training_since: dt.datetime | None = None
    findings: tuple[Mapping[str, Any], ...] = ()
    error: str | None = None
    damaged: tuple[int, ...] = ()

    @property
    def open_attempt(self) -> Attempt | None:
        """The attempt that has had no last word."""
        newest = self.attempts[-1] if self.attempts else None
        is_open = self.last is not None and self.last.event in (
            "attempt_started",
            "resumed",
            "stop_requested",
        )
        return newest if is_open else None

    @property
    def first_start(self) -> dt.datetime | None:
        return self.attempts[0].started if self.attempts else None


_CHECKPOINT = b'"event": "checkpoint"'
_AFTER_TIME = len('{"t": "2026-11-22T08:00:00.000+00:00", ')
"""Where `append_event` begins the event's name. A line of another make is parsed, which only takes longer."""


def parse_history(content: bytes) -> History:
    """The history in an events.jsonl. Of checkpoints with nothing between them only the last is parsed."""
    lines = content.rstrip(b"\n").split(b"\n")
    kept: list[bytes] = []
    was_saved = False
    for line in lines:
        is_saved = line.startswith(_CHECKPOINT, _AFTER_TIME)
        if is_saved and was_saved:
            kept[-1] = line
        else:
            kept.append(line)
        was_saved = is_saved
    events = _parse_at_once(kept)
    if events is not None:
        return summarise(events)
    # One of the lines is unfinished or foreign.
    return dataclasses.replace(summarise(parse_events(content)), damaged=damaged_lines(content))


def summarise(events: Sequence[Event]) -> History:
    """The history that `events` tell."""
    place = {e.event: k for k, e in enumerate(events)}

    def newest(*names: str) -> Event | None:
        at = max(place.get(name, -1) for name in names)
        return events[at] if at >= 0 else None

    attempts, failure = parse_attempts(events), newest("failed")
    productive_s, in_copy_s = _productive_s(events) if attempts else (0.0, 0.0)
    revived = tuple(_revived(events)) if attempts else ()
    placed, training = newest("submitted", "attempt_started"), newest("attempt_started", "resumed")
    asked = newest("submitted")
    return History(
        submitted=next((e.t for e in events if e.event == "submitted"), None),
        job_noted=asked.t if asked else None,
        revived=tuple(t for _, t in revived),
        rested_s=_rested_s(revived, attempts),
        job_id=str(placed.get("job_id", "")) if placed else "",
        identity=_identity(asked, placed),
        host=str(placed.get("host", "")) if placed else "",
        gpus=gpus_in_foreground(events),
        attempts=attempts,
        causes=_causes(attempts),
        last=next((e for e in reversed(events) if e.event not in STAYS), None),
        cancelled="cancelled" in place and is_cancelled(events),
        saved=_saved(events, newest("checkpoint"), _proved(events, newest("checkpoint", "resumed"))),
        copied=_copied(newest("attempt_started", "checkpoint", "resumed")),
        productive_s=productive_s,
        in_copy_s=in_copy_s,
        training_since=training.t if training else None,
        findings=_findings(events) if "preflight" in place else (),
        error=_text(failure.get("error")) if failure else None,
    )


def queued_s(history: History) -> list[float | None]:
    """Seconds each attempt waited before it started.

    None in the same job, in the foreground, or where the end before it is not known.
    """
    attempts = history.attempts
    since = [history.submitted, *(None if a.next_in_job else a.ended for a in attempts[:-1])]
    for number, (before, after) in enumerate(itertools.pairwise(attempts), start=1):
        again = [t for t in history.revived if before.started < t <= after.started]
        since[number] = again[0] if again else since[number]  # until then nobody had asked for it
    waits = [(a.started - t).total_seconds() if t else None for a, t in zip(attempts, since, strict=False)]
    return [None if a.in_foreground else wait for a, wait in zip(attempts, waits, strict=True)]


def _revived(events: Iterable[Event]) -> Iterator[tuple[dt.datetime, dt.datetime]]:
    """Submissions of a run that had started and that no job was to continue: its last sign before, and when.

    A killed attempt has no final event; its checkpoints are signs, too. A start in the foreground is as such a
    submission; of a run that was submitted, too, since it has no job by then.
    """
    may_be, sign = False, None
    for event in events:
        in_foreground = starts_in_foreground(event)
        if sign is not None and (in_foreground or (may_be and event.event == "submitted")):
            yield sign, event.t
        if event.event == "submitted":
            may_be = False  # a second submission ends the same rest
            sign = event.t if sign is not None else None
        if event.event in _SIGNS:
            sign = event.t
        may_be = event.event != "requeued" if event.event in ("attempt_started", *LAST_WORDS) else may_be


def _rested_s(revived: Sequence[tuple[dt.datetime, dt.datetime]], attempts: Sequence[Attempt]) -> float:
    """Seconds that the run lay idle before each revival: since its last sign in events, or a later heartbeat."""
    beats = [a.beat_before for a in attempts if a.beat_before] if revived else []
    signs = [max([sign, *(beat for beat in beats if beat < t)]) for sign, t in revived]
    return sum(_between(sign, t) for sign, (_, t) in zip(signs, revived, strict=True))


_SIGNS = ("attempt_started", "resumed", "checkpoint", "stop_requested", "failed", *LAST_WORDS)


def lost_steps(attempts: Sequence[Attempt]) -> list[int]:
    """Steps that each attempt took and the next did not start from: not saved when it was killed, or damaged.

    An attempt that has not come to resume yet, or never did, tells nothing of the one before it.
    """
    lost = [0] * len(attempts)
    trained = 0
    for number, attempt in enumerate(attempts[1:], 1):
        if attempt.has_begun:
            lost[trained] = max(0, attempts[trained].last_step - attempt.first_step, attempt.repeats)
            trained = number
    return lost


def _parse_at_once(lines: Sequence[bytes]) -> Sequence[Event] | None:
    """As `parse_events`, by one call for all lines: with thousands of runs that is what counts. None: not all are."""
    try:
        records = json.loads((b"[" + b",".join(lines) + b"]").decode())
        moment = dt.datetime.fromisoformat
        return [Event(moment(r.pop("t")), r.pop("event"), r.pop("attempt"), r) for r in records]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _identity(submission: Event | None, placed: Event | None) -> JobIdentity | None:
    """Of the SLURM job that has the run, which is that of its newest submission."""
    if submission is None or placed is None or submission.get("executor") != "slurm":
        return None
    if submission.get("job_id") != placed.get("job_id"):
        return None  # since then it was trained in the foreground
    return read_identity(submission.fields, noted_at=submission.t)


def _causes(attempts: Sequence[Attempt]) -> dict[Cause, int]:
    ended = [a.cause for a in attempts if a.cause is not None and a.cause is not Cause.COMPLETED]
    return dict(Counter(ended)) if ended else {}


def _saved(events: Sequence[Event], saved: Event | None, proved: Event | None) -> Saved | None:
    """The newest checkpoint; where an attempt has resumed since, the one that it found whole, or none."""
    step = int(proved.get("step", 0)) if proved else 0
    if saved is not None and int(saved.get("step", 0)) != step:  # it was damaged
        saved = next(
            (e for e in reversed(events) if e.event == "checkpoint" and e.get("step") == step), proved
        )
    return Saved(t=saved.t, step=step, attempt=saved.attempt) if saved is not None and step else None


def _proved(events: Sequence[Event], newest: Event | None) -> Event | None:
    """The newest event that proves a checkpoint. To resume from a copy on a node says nothing of checkpoints."""
    if newest is None or not _is_from_copy(newest):
        return newest
    return next((e for e in reversed(events) if e.event in _PROOFS and not _is_from_copy(e)), None)


_PROOFS = ("checkpoint", "resumed")


def _copied(newest: Event | None) -> Saved | None:
    if newest is None or not _is_from_copy(newest):
        return None
    return Saved(t=newest.t, step=int(newest.get("step", 0)), attempt=newest.attempt)


def _is_from_copy(event: Event) -> bool:
    return event.event == "resumed" and event.get("tier") == "node"


def _productive_s(events: Sequence[Event]) -> tuple[float, float]:
    """Seconds of training that was kept, and how many of them are in a copy on a node alone.

    Of each attempt it is the time from the start of training (or of the attempt) to the last checkpoint; to its end
    where the next one resumed from a copy on the node, until one resumes without it.
    """
    kept, in_copy, unsaved = 0.0, 0.0, 0.0
    start = end = over = None
    for event in events:
        if event.event == "attempt_started":
            kept += _between(start, end)
            if start is not None:
                unsaved = _between(end or start, over or event.t)
            start, end, over = event.t, None, None
        elif event.event == "resumed":
            in_copy, unsaved = in_copy + unsaved if _is_from_copy(event) else 0.0, 0.0
            start = event.t
        elif event.event == "checkpoint":
            end, kept, in_copy = event.t, kept + in_copy, 0.0
        elif event.event in ("failed", *LAST_WORDS):
            over = over or event.t
    return kept + in_copy + _between(start, end), in_copy


def _between(start: dt.datetime | None, end: dt.datetime | None) -> float:
    return max(0.0, (end - start).total_seconds()) if start and end else 0.0


def _findings(events: Sequence[Event]) -> tuple[Mapping[str, Any], ...]:
    newest = {e.get("side", ""): e for e in events if e.event == "preflight"}
    found = [
        f | {"side": side}
        for side, e in newest.items()
        for f in e.get("findings") or ()
        if isinstance(f, dict)
    ]
    return tuple(found)


def _text(value: Any) -> str | None:
    return None if value is None else str(value)
