"""Learning rates, from their definitions."""

import math
from itertools import pairwise

import pytest

from sedd.spec.training import TrainingSpec
from sedd.training.schedule import SCHEDULES, learning_rate


def spec(schedule: str, **fields: float) -> TrainingSpec:
    return TrainingSpec.model_validate(
        {"steps": 1000, "warmup_steps": 100, "learning_rate": 0.5, "schedule": schedule} | fields
    )


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warm_up_is_linear_and_ends_at_the_peak(schedule: str) -> None:
    rates = [learning_rate(step, spec(schedule)) for step in range(1, 101)]
    assert rates == pytest.approx([0.5 * step / 100 for step in range(1, 101)])


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_after_the_warm_up_the_rate_never_rises_and_does_not_jump(schedule: str) -> None:
    rates = [learning_rate(step, spec(schedule)) for step in range(100, 1001)]
    assert all(a >= b > 0 for a, b in pairwise(rates))
    assert rates[1] == pytest.approx(0.5, rel=0.01)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_no_warm_up_starts_at_the_peak(schedule: str) -> None:
    assert learning_rate(1, spec(schedule, warmup_steps=0)) == pytest.approx(0.5, rel=0.01)


def test_cosine_ends_at_a_tenth() -> None:
    assert learning_rate(1000, spec("cosine")) == pytest.approx(0.05)
    assert learning_rate(550, spec("cosine")) == pytest.approx(0.5 * 0.55)


def test_inverse_sqrt_is_that() -> None:
    assert learning_rate(400, spec("inverse_sqrt")) == pytest.approx(0.5 * math.sqrt(100 / 400))
