"""The verdict of tools/chaos.py: what counts as equal, and what a report says."""

import argparse
import datetime as dt
import io
import signal
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from sedd.launch.local_processes import wait_until
from sedd.rundir.attempts import parse_attempts
from sedd.rundir.events import Event

NOW = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def verdict(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    import _chaos_verdict

    return _chaos_verdict


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    import _chaos_table

    return _chaos_table


def state() -> dict[str, Any]:
    moments = {"step": torch.tensor(3.0), "exp_avg": torch.zeros(4)}
    return {
        "model": {"w": torch.arange(6, dtype=torch.float32).reshape(2, 3)},
        "optimizer": [moments],
        "step": 800,
        "nan": torch.tensor(float("nan")),
    }


def flip_last_bit(tensor: torch.Tensor) -> None:
    tensor.view(torch.int32).flatten()[-1] ^= 1


def test_equal_states_differ_nowhere_and_a_nan_is_itself(verdict: ModuleType) -> None:
    assert list(verdict.unequal(state(), state(), "checkpoint")) == []


def test_a_single_bit_is_found_where_it_is(verdict: ModuleType) -> None:
    seen = state()
    flip_last_bit(seen["model"]["w"])
    seen["optimizer"][0]["exp_avg"][0] = -0.0
    seen["step"] = 801
    found = list(verdict.unequal(state(), seen, "checkpoint"))
    assert found == ["checkpoint.model.w", "checkpoint.optimizer.0.exp_avg", "checkpoint.step"]


def test_what_is_missing_or_of_another_type_differs(verdict: ModuleType) -> None:
    without = {key: value for key, value in state().items() if key != "step"}
    assert list(verdict.unequal(state(), without, "checkpoint")) == ["checkpoint"]
    halved = state() | {"nan": state()["nan"].half()}
    assert list(verdict.unequal(state(), halved, "checkpoint")) == ["checkpoint.nan"]


def told(*words: tuple[str, int, dict[str, Any]]) -> list[Event]:
    """Events a minute apart."""
    return [Event(NOW + dt.timedelta(minutes=n), event, a, f) for n, (event, a, f) in enumerate(words)]


@pytest.mark.parametrize(
    ("first_cause", "fault", "lost"),
    [("preempted", None, 9), ("preempted", "preempt", 9), ("preempted", "disk full", 0), ("killed", None, 0)],
)
def test_a_repeated_step_is_laid_to_the_attempt_that_took_it(
    verdict: ModuleType, first_cause: str, fault: str | None, lost: int
) -> None:
    """Attempt 2 ends before its first step: what attempt 3 repeats, attempt 1 had taken."""
    said = told(
        ("attempt_started", 1, {}),
        ("checkpoint", 1, {"step": 100}),
        ("requeued", 1, {"cause": first_cause}),
        ("attempt_started", 2, {}),
        ("requeued", 2, {"cause": "time_limit"}),
        ("attempt_started", 3, {}),
        ("resumed", 3, {"step": 100, "repeats": 9}),
    )
    at = NOW + dt.timedelta(seconds=90)
    injuries = [verdict.Injury(fault=fault, t=at, victims=("run",), detail="")] if fault else []
    assert sum(verdict.lost_gracefully(said, parse_attempts(said), injuries)) == lost


def test_time_of_steps_that_are_repeated_and_of_pauses_is_not_effective(verdict: ModuleType) -> None:
    """Eight minutes, two of which took steps that no later attempt took again."""
    said = told(
        ("attempt_started", 1, {}),
        ("checkpoint", 1, {"step": 0}),
        ("checkpoint", 1, {"step": 10}),
        ("checkpoint", 1, {"step": 20}),
        ("requeued", 1, {"cause": "killed"}),
        ("attempt_started", 2, {}),
        ("resumed", 2, {"step": 10, "repeats": 10}),
        ("checkpoint", 2, {"step": 20}),
        ("completed", 2, {}),
    )
    assert verdict.effective_time_ratio(said) == 2 / 8
    assert verdict.effective_time_ratio(said[:-1]) == 0.0


@pytest.fixture
def two_attempts(tmp_path: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Processes that look like the trainings of two attempts of one run."""
    command = [sys.executable, "-c", "import time; time.sleep(60)", "sedd.job.worker", str(tmp_path / "run")]
    attempts = [subprocess.Popen(command, env={"SEDD_ATTEMPT": number}) for number in "56"]
    yield attempts
    for process in attempts:
        process.kill()
        process.wait()


def test_two_attempts_at_once_are_seen_unless_the_campaign_itself_holds_one(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, two_attempts: list[subprocess.Popen[bytes]]
) -> None:
    monkeypatch.syspath_prepend(str(TOOLS))
    import chaos

    monkeypatch.setattr(chaos, "WAKES_S", 0.3)
    site = types.SimpleNamespace(runs=tmp_path)
    campaign = chaos.Campaign(site, argparse.Namespace(seed=0), tmp_path)

    def seen() -> list[tuple[int, ...]]:
        campaign._look_for_overlaps()
        return [overlap.attempts for overlap in campaign.overlaps]

    old = two_attempts[0]
    old.send_signal(signal.SIGSTOP)
    assert wait_until(lambda: any(w.is_stopped for w in chaos.workers(tmp_path)), timeout_s=60)
    assert seen() == []
    old.send_signal(signal.SIGCONT)
    assert seen() == [], "it has just woken, and must have a moment to see the newer attempt"
    assert wait_until(lambda: seen() == [(5, 6)], timeout_s=60)


def run_of(layout: str, **changes: Any) -> dict[str, Any]:
    good = {
        "layout": layout,
        "completed": True,
        "differences": [],
        "attempts": 4,
        "steps_repeated": 30,
        "steps_lost_gracefully": 0,
        "overlaps": 0,
        "ettr": 0.5,
    }
    return good | changes


def test_the_report_of_several_campaigns_counts_all_and_fits_80_columns(table: ModuleType) -> None:
    from rich.console import Console

    fault = {"fault": "restart slurmctld", "victims": ["a", "b"]}
    good = {
        "faults": [fault] * 20,
        "runs": [run_of("single"), run_of("2x2")],
        "orphans": [],
        "by_hand": {"held": 1, "ended": 0},
        "strangers": {"planted": 7, "touched": []},
        "violations": [],
    }
    bad = good | {
        "runs": [run_of("array/1", completed=False, differences=["metrics.jsonl"])],
        "orphans": ["9: x"],
        "strangers": {"planted": 7, "touched": ["job 3: PENDING became nothing"]},
    }
    assert "40 faults, 3 runs: 1 lost, 1 different, 0 trained twice at once, 1 orphans" in table.summary(
        [good, bad]
    )
    assert "14 jobs of others planted, 1 touched, 0 things that must never happen" in table.summary(
        [good, bad]
    )
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table.render([good, bad]))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= 80
    assert "restart slurmctld" in text
