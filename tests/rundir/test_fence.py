"""Two attempts of one run: the older one writes no more, and what it says does not count."""

import datetime as dt
from pathlib import Path

import pytest

from sedd.rundir.attempts import Cause, parse_attempts
from sedd.rundir.events import append_event, read_events
from sedd.rundir.fence import SupersededError, newest_attempt, require_newest

NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)


def tell(path: Path, *words: tuple[str, int], **fields: object) -> None:
    for event, attempt in words:
        append_event(path, event, attempt=attempt, now=NOW, **fields)


def test_only_the_newest_attempt_may_write(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    tell(events, ("submitted", 0))
    assert newest_attempt(read_events(events)) == 0
    tell(events, ("attempt_started", 1))
    require_newest(events, attempt=1)
    tell(events, ("attempt_started", 2), ("checkpoint", 1))
    require_newest(events, attempt=2)
    with pytest.raises(SupersededError, match="attempt 2 of this run has begun"):
        require_newest(events, attempt=1)


def test_words_of_an_attempt_that_was_replaced_are_not_those_of_its_successor(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    tell(events, ("attempt_started", 1), ("attempt_started", 2))
    tell(events, ("checkpoint", 1), step=900)
    tell(events, ("checkpoint", 2), step=100)
    tell(events, ("failed", 1), cause="crashed")
    lost, newest = parse_attempts(read_events(events))
    assert lost.cause is Cause.KILLED
    assert (newest.last_step, newest.cause) == (100, None)
