"""Every event has a sentence."""

import datetime as dt

import pytest

from sedd.monitor.sentences import sentence
from sedd.rundir.events import EVENTS, Event

T = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)


@pytest.mark.parametrize("name", [*EVENTS, "an_event_of_a_later_version"])
def test_an_event_without_any_field_is_no_error(name: str) -> None:
    assert sentence(Event(T, name, 0))


def test_findings_are_named() -> None:
    event = Event(
        T, "preflight", 0, {"side": "node", "ok": False, "findings": [{"check": "gpu", "saw": "none"}]}
    )
    assert sentence(event) == "node preflight failed (gpu: none)"


def test_of_a_traceback_the_last_line_is_told() -> None:
    event = Event(
        T, "failed", 1, {"cause": "crashed", "rank": 3, "error": "Traceback\n  x\nValueError: no\n"}
    )
    assert sentence(event) == "crashed on rank 3: ValueError: no"
