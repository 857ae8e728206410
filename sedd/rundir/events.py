"""events.jsonl: what happened to a run, one JSON object a line, append-only."""

import contextlib
import datetime as dt
import errno
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sedd.errors import REFUSED, RunError, reason_of

EVENTS = (
    *("submitted", "preflight", "attempt_started", "ready", "resumed", "checkpoint", "stop_requested"),
    *("requeued", "gave_up", "completed", "failed", "cancelled", "extended", "reshaped"),
    *("rung", "promoted", "paused", "stopped"),
)
"""Every kind of event; README.md says who writes it and with which fields."""
STAYS = ("preflight", "checkpoint", "ready", "rung", "promoted")
"""Events that leave a run in the state in which it was."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of events.jsonl."""

    t: dt.datetime
    event: str
    attempt: int
    """0 before the first attempt."""
    fields: Mapping[str, Any] = field(default_factory=dict)

    def get(self, name: str, default: Any = None) -> Any:
        return self.fields.get(name, default)


def append_event(path: Path, event: str, *, attempt: int, now: dt.datetime, **fields: Any) -> None:
    """Add one line, whole and durable, even while other processes write.

    A line left unfinished by a killed writer is closed first, so that it cannot swallow this one.

    Raises:
        RunError: the file cannot be written.
    """
    if event not in EVENTS:
        raise ValueError(f"unknown event {event!r}")
    record = {
        "t": now.astimezone(dt.UTC).isoformat(timespec="milliseconds"),
        "event": event,
        "attempt": attempt,
    }
    line = json.dumps(record | fields, ensure_ascii=False).encode() + b"\n"
    try:
        handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            size = os.fstat(handle).st_size
            cut = size > 0 and os.pread(handle, 1, size - 1) != b"\n"
            whole = (b"\n" if cut else b"") + line
            if os.write(handle, whole) < len(whole):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as e:
        raise RunError(f"cannot write {path}: {e.strerror}") from e


def note_event(path: Path, event: str, *, attempt: int, **fields: Any) -> bool:
    """Append an event as of now; whether that went well. A disk that is full for a while must not cost the run."""
    try:
        append_event(path, event, attempt=attempt, now=dt.datetime.now(dt.UTC), **fields)
    except RunError as e:
        with contextlib.suppress(OSError):  # the log may lie on the same disk
            print(f"event {event} is lost: {e.message}", flush=True)
        return False
    return True


def refusal(path: Path, *, codes: Collection[int] = REFUSED) -> str | None:
    """Why no event can be recorded that no waiting would mend, such as `permission denied`; else None.

    `codes` are the system's numbers of what counts.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_APPEND))
    except OSError as e:
        return reason_of(e) if e.errno in codes else None
    return None


def parse_events(content: bytes) -> tuple[Event, ...]:
    """The events of a file's content; unfinished and foreign lines are passed over."""
    parsed = (_parse_line(line) for line in content.split(b"\n"))
    return tuple(event for event in parsed if event is not None)


def damaged_lines(content: bytes) -> tuple[int, ...]:
    """Numbers of the lines that are no events, from 1; the last one may be unfinished yet."""
    *whole, _ = content.split(b"\n")
    return tuple(number for number, line in enumerate(whole, 1) if line.strip() and _parse_line(line) is None)


def require_undamaged(path: Path, *, unknown: str = "whether the run was submitted") -> None:
    """Before something is concluded from an event that is missing; `unknown` says what that is.

    Raises:
        RunError: a line is damaged; the message names it.
    """
    try:
        damaged = damaged_lines(path.read_bytes())
    except FileNotFoundError:
        return
    except OSError as e:
        raise RunError(f"cannot read {path}: {e.strerror}") from e
    if damaged:
        raise RunError(
            f"{path}:{damaged[0]}: damaged line: {unknown} is not known",
            hint="put the line right from a backup; or remove it, if no job of the run waits or runs",
        )


def read_events(path: Path) -> tuple[Event, ...]:
    """The events of a run so far; none when the file does not exist yet. Raises: RunError."""
    try:
        return parse_events(path.read_bytes())
    except FileNotFoundError:
        return ()
    except OSError as e:
        raise RunError(f"cannot read {path}: {e.strerror}") from e


def _parse_line(line: bytes) -> Event | None:
    try:
        record = json.loads(line)
        moment = dt.datetime.fromisoformat(record.pop("t"))
        if moment.tzinfo is None:
            return None
        return Event(moment, str(record.pop("event")), int(record.pop("attempt")), record)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
