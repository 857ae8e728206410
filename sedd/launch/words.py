"""What a job says in events.jsonl."""

import contextlib
import datetime as dt
from typing import Any

from sedd.errors import RunError
from sedd.rundir.events import append_event
from sedd.rundir.layout import RunDir

LAST_WORDS = ("requeued", "gave_up", "completed", "cancelled")
"""Events that say what follows an attempt."""


def say(run: RunDir, event: str, *, attempt: int, **fields: Any) -> None:
    """Append an event. A disk that is full for a while must not cost the run: then it goes on unsaid."""
    try:
        append_event(run.events, event, attempt=attempt, now=dt.datetime.now(dt.UTC), **fields)
    except RunError as e:
        with contextlib.suppress(OSError):  # the log may lie on the same disk
            print(f"event {event} is lost: {e.message}", flush=True)
