"""What a job says in events.jsonl."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from sedd.rundir.events import Event, note_event
from sedd.rundir.layout import RunDir

FINAL_EVENTS = ("requeued", "gave_up", "completed", "cancelled")
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


def record_event(run: RunDir, event: str, *, attempt: int, **fields: Any) -> bool:
    """Append an event; whether that went well. A disk that is full for a while must not cost the run."""
    return note_event(run.events, event, attempt=attempt, **fields)


def record_event_with_retry(
    run: RunDir, event: str, *, attempt: int, is_unwanted: Callable[[], bool] = lambda: False, **fields: Any
) -> bool:
    """As `say`, trying again for half a minute, or until it `is_unwanted`."""
    deadline = time.monotonic() + PATIENCE_S
    while not record_event(run, event, attempt=attempt, **fields):
        if time.monotonic() > deadline or is_unwanted():
            return False
        time.sleep(POLL_S)
    return True
