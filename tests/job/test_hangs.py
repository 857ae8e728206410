"""When a training that reports no progress is called hung, and when never."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sedd.job.hangs import Stillness, limit_s, save_limit_s, why_hung
from sedd.rundir.rank_progress import PHASES, RankProgress

AT_20 = RankProgress(t=100.0, step=20, phase="training", step_s=0.5, slowest_s=0.8)
POLL_S = 0.1


def verdict(stillness: Stillness, *, hang_after_s: float = 60.0, slowest_save_s: float = 0.0) -> str | None:
    return why_hung(stillness, hang_after_s=hang_after_s, slowest_save_s=slowest_save_s)


def watch(progress: RankProgress, seconds: float, *, every_s: float = POLL_S) -> Stillness:
    """Look at an unchanged report for so long."""
    stillness = Stillness()
    for tick in range(int(seconds / every_s) + 1):
        stillness.see(progress, 1000.0 + tick * every_s)
    return stillness


def test_a_training_that_stands_still_is_hung_after_the_limit_and_not_before() -> None:
    assert verdict(watch(AT_20, 59)) is None
    why = verdict(watch(AT_20, 61))
    assert why is not None
    assert "no progress for 61 s at step 20, training (limit 60 s)" in why


@pytest.mark.parametrize("phase", PHASES)
def test_each_phase_has_its_limit_and_none_is_shorter_than_asked_for(phase: str) -> None:
    progress = dataclasses.replace(AT_20, phase=phase)
    limit = limit_s(progress, hang_after_s=60.0, slowest_save_s=0.0)
    never = {"waiting", "stopping", "done"}
    assert (limit is None) == (phase in never)
    assert limit is None or (limit == 60.0 if phase == "training" else limit >= 600.0)
    if limit is not None:
        assert limit_s(progress, hang_after_s=7200.0, slowest_save_s=0.0) == 7200.0
    hung = verdict(watch(progress, 2.1 * 3600, every_s=1.0))
    assert (hung is None) == (phase in never)


def test_the_limit_grows_with_the_slowest_step_and_the_slowest_save() -> None:
    slow = dataclasses.replace(AT_20, slowest_s=30.0)
    assert limit_s(slow, hang_after_s=60.0, slowest_save_s=0.0) == 300.0
    saves = dataclasses.replace(AT_20, phase="checkpointing")
    assert limit_s(saves, hang_after_s=60.0, slowest_save_s=200.0) == 2000.0
    assert save_limit_s(hang_after_s=60.0, slowest_save_s=200.0) == 2000.0


def test_a_job_that_is_suspended_with_its_entry_does_not_hang() -> None:
    stillness = watch(AT_20, 30)
    stillness.see(AT_20, 1000.0 + 86400.0)
    assert stillness.still_s < 32
    assert verdict(stillness) is None


def test_a_checkpoint_that_is_never_written_is_a_hang_although_steps_are_taken() -> None:
    stillness = Stillness()
    for second in range(1000):
        stillness.see(dataclasses.replace(AT_20, t=float(second), step=second, save_since=5.0), float(second))
    assert "checkpoint" in (verdict(stillness) or "")
    for second in range(1000, 2000):  # saves that succeed, one every ten seconds
        saved = dataclasses.replace(AT_20, t=float(second), step=second, save_since=float(second // 10))
        stillness.see(saved, float(second))
    assert verdict(stillness) is None


def test_without_a_report_nothing_is_judged() -> None:
    stillness = Stillness()
    for second in range(10_000):
        stillness.see(None, float(second))
    assert verdict(stillness) is None


@given(st.lists(st.floats(min_value=0.01, max_value=59.0), min_size=1, max_size=20))
def test_steps_shorter_than_the_limit_are_never_a_hang(steps: list[float]) -> None:
    stillness, now = Stillness(), 0.0
    for number, step_s in enumerate(steps):
        progress = dataclasses.replace(AT_20, step=number, t=now, slowest_s=max(steps[:number], default=0.0))
        end = now + step_s
        while now < end:
            stillness.see(progress, now)
            assert verdict(stillness) is None
            now += 0.7
