"""What a job says in events.jsonl."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from sedd.errors import RunError
from sedd.rundir.events import Event, note_event, read_events
from sedd.rundir.layout import RunDir

FINAL_EVENTS = ("requeued", "gave_up", "completed", "cancelled", "paused")
"""Events that say what follows an attempt."""
PATIENCE_S = 30.0
"""For a full disk to have space again for a word that must not be lost."""
POLL_S = 1.0


def is_decided(events: Sequence[Event], attempt: int) -> bool:
    """Whether an attempt has its final event."""
    return any(event.event in FINAL_EVENTS and event.attempt == attempt for event in events)


def has_ended(events: Sequence[Event], attempt: int) -> bool:
    """Whether an attempt has its last word, and its training had ended by then."""
    return any(e.event in FINAL_EVENTS and e.attempt == attempt and not e.get("alive") for e in events)


def starts_in_job(events: Sequence[Event], attempt: int) -> bool:
    """Whether the next attempt starts in the job of this one, by the newest of its final events."""
    finals = [e for e in events if e.event in FINAL_EVENTS and e.attempt == attempt]
    return bool(finals) and finals[-1].event == "requeued" and bool(finals[-1].get("in_job"))


def find_ready(events: Sequence[Event], attempt: int) -> dict[int, Event]:
    """The tasks of the job whose training in this attempt has ended, and whose entries wait for the next one."""
    return {int(e.get("task")): e for e in events if e.event == "ready" and e.attempt == attempt}


def read_with_retry(run: RunDir, *, patience_s: float = PATIENCE_S) -> Sequence[Event]:
    """The run's events at the end of an attempt, tried for so long: without them no other one could follow.

    Raises:
        RunError: they cannot be read; at once where this user may not.
    """
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return read_events(run.events)
        except RunError as e:
            if isinstance(e.__cause__, PermissionError) or time.monotonic() > deadline:
                raise
        time.sleep(POLL_S)


def record_event(run: RunDir, event: str, *, attempt: int, **fields: Any) -> bool:
    """Append an event; whether that went well. A disk that is full for a while must not cost the run."""
    return note_event(run.events, event, attempt=attempt, **fields)


def record_event_with_retry(
    run: RunDir,
    event: str,
    *,
    attempt: int,
    patience_s: float = PATIENCE_S,
    is_unwanted: Callable[[], bool] = lambda: False,
    **fields: Any,
) -> bool:
    """As `record_event`, trying again for so long, or until it `is_unwanted`."""
    deadline = time.monotonic() + patience_s
    while not record_event(run, event, attempt=attempt, **fields):
        if time.monotonic() > deadline or is_unwanted():
            return False
        time.sleep(POLL_S)
    return True
