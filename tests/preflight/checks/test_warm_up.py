"""The finding about warm-ups that outlast their training."""

from collections.abc import Callable

import pytest

from sedd.preflight.checks.warm_up import gather, judge
from sedd.preflight.context import CheckContext
from sedd.preflight.finding import Status

MakeContext = Callable[..., CheckContext]


@pytest.mark.parametrize(
    ("warmup", "steps", "expected"), [(0, 1, Status.OK), (9, 10, Status.OK), (10, 10, Status.WARN)]
)
def test_a_warm_up_should_end_before_the_training(
    warmup: int, steps: int, expected: Status, make_context: MakeContext
) -> None:
    facts = gather(make_context({"training.warmup_steps": warmup, "training.steps": steps}))
    assert judge(facts).status is expected


def test_it_says_how_far_the_rate_comes(make_context: MakeContext) -> None:
    spec = {"training.warmup_steps": 500, "training.steps": 10, "training.learning_rate": 3e-4}
    assert "to 6e-06 of 0.0003" in judge(gather(make_context(spec))).saw  # 3e-4 · 10 / 500


def test_every_point_of_a_sweep_is_looked_at(make_context: MakeContext) -> None:
    right = make_context({"training.warmup_steps": 1, "training.steps": 100}).experiment
    wrong = make_context({"training.warmup_steps": 100, "training.steps": 100}).experiment
    context = make_context({"training.warmup_steps": 1, "training.steps": 100}, request=(right, wrong))
    assert judge(gather(context)).status is Status.WARN


@pytest.mark.parametrize(("rate", "expected"), [(3e-3, Status.OK), (0.1, Status.OK), (5.0, Status.WARN)])
def test_a_rate_that_trains_nothing_is_told_of_any_point(
    rate: float, expected: Status, make_context: MakeContext
) -> None:
    few = {"training.warmup_steps": 1, "training.steps": 100}
    right, other = (make_context(few | {"training.learning_rate": each}).experiment for each in (1e-3, rate))
    context = make_context(few, request=(right, other))
    assert judge(gather(context)).status is expected
