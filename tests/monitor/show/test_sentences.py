"""Every event has a sentence."""

import datetime as dt

import pytest

from sedd.monitor.show.sentences import sentence
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


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("completed", {"step": 7}, "completed at step 7"),
        ("stop_requested", {"by": "sedd requeue"}, "asked to stop by sedd requeue"),
        ("stop_requested", {"signal": "SIGUSR2", "step": 7}, "asked to stop by SIGUSR2, at step 7"),
        (
            "submitted",
            {"executor": "foreground", "job_id": "", "host": "desk"},
            "started in the foreground on desk",
        ),
        ("submitted", {"executor": "slurm", "job_id": "12"}, "submitted as job 12"),
        (
            "submitted",
            {"executor": "slurm", "job_id": "13", "continues": "12"},
            "submitted as job 13, which goes on from job 12",
        ),
    ],
)
def test_only_what_an_event_says_is_told(name: str, fields: dict[str, object], said: str) -> None:
    assert sentence(Event(T, name, 1, fields)) == said


@pytest.mark.parametrize(
    ("name", "fields", "said"),
    [
        ("checkpoint", {"step": 4774, "reason": "periodic"}, "kept what is done: 4,774 proteins"),
        ("checkpoint", {"step": 4774, "reason": "last"}, "wrote the results"),
        ("resumed", {"step": 4774}, "resumed with what was kept: 4,774 proteins"),
    ],
)
def test_parts_that_are_kept_are_no_results_yet(name: str, fields: dict[str, object], said: str) -> None:
    assert sentence(Event(T, name, 1, fields), unit="proteins") == said


@pytest.mark.parametrize("name", EVENTS)
@pytest.mark.parametrize("unit", ["proteins", "bytes", "sampling steps"])
def test_what_counts_no_steps_of_a_training_is_at_no_step(name: str, unit: str) -> None:
    assert "at step" not in sentence(Event(T, name, 1, {"step": 670_441}), unit=unit) or name in OF_HALVING


OF_HALVING = ("paused", "rung")
"""Events of trainings alone."""


@pytest.mark.parametrize(
    ("unit", "said"),
    [
        ("proteins", "completed: 670,441 proteins"),
        ("bytes", "completed: 655 KiB"),
        ("steps", "completed at step 670441"),
    ],
)
def test_the_end_tells_the_unit_of_the_task(unit: str, said: str) -> None:
    assert sentence(Event(T, "completed", 1, {"step": 670_441}), unit=unit) == said
