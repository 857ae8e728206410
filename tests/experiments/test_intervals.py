"""Intervals: against scipy, and by how often they hold what is true."""

import math
import random

import numpy as np
import pytest
from scipy import stats

from sedd.experiments.intervals import (
    Estimate,
    difference_of,
    mean_of,
    ratio_of,
    simultaneous,
    standard_deviation,
    t_quantile,
)


@pytest.mark.parametrize("probability", [0.6, 0.9, 0.975, 0.995, 0.9995, 0.99999])
@pytest.mark.parametrize("freedom", [1, 1.02, 1.3, 1.9, 2, 5.5, 7, 30, 63, 1000, 1e5, math.inf])
def test_quantiles_are_those_of_students_t(probability: float, freedom: float) -> None:
    """Also of two seeds each, between 1 and 2, and of a thousand comparisons that hold together."""
    asked = 1e6 if math.isinf(freedom) else freedom
    assert t_quantile(probability, freedom) == pytest.approx(stats.t.ppf(probability, asked), rel=2e-6)


def test_welch_is_that_of_scipy() -> None:
    rng = np.random.default_rng(3)
    one, other = rng.normal(2.4, 0.01, 3), rng.normal(2.5, 0.05, 5)
    found = difference_of(mean_of(list(one)), mean_of(list(other)))
    expected = stats.ttest_ind(one, other, equal_var=False)
    assert found.freedom == pytest.approx(expected.df)
    assert found.interval() == pytest.approx(tuple(expected.confidence_interval(0.95)), rel=1e-6)


def test_a_mean_and_its_interval_are_those_of_scipy() -> None:
    values = [2.41, 2.43, 2.40, 2.47]
    assert standard_deviation(values) == pytest.approx(np.std(values, ddof=1))
    low, high = stats.t.interval(0.95, 3, np.mean(values), stats.sem(values))
    assert mean_of(values).interval() == pytest.approx((low, high))


def test_one_value_has_no_error() -> None:
    assert mean_of([2.4]) == Estimate(value=2.4, freedom=0)
    assert mean_of([2.4]).interval() is None
    assert mean_of([2.4]).is_distinguishable() is None
    assert difference_of(mean_of([2.4]), mean_of([2.5, 2.6])).interval() is None


@pytest.mark.parametrize("blocks", [8, 64])
def test_an_interval_of_a_ratio_holds_the_truth_as_often_as_it_says(blocks: int) -> None:
    """Blocks of unequal size whose nats a residue vary: 95 % of the intervals hold the true mean."""
    rng, truth, held = random.Random(blocks), 2.5, 0
    for _ in range(2000):
        weights = [rng.uniform(500, 1500) for _ in range(blocks)]
        sums = [w * rng.gauss(truth, 0.3) for w in weights]
        low, high = ratio_of(sums, weights).interval() or (0, 0)
        held += low <= truth <= high
    # Two thousand draws of 95 % have a standard error of 0.5 %; of few blocks a ratio's error is a little small.
    assert 0.925 < held / 2000 < 0.965


def test_pairing_tells_apart_what_unpaired_intervals_cannot() -> None:
    rng = random.Random(0)
    weights = [1000.0] * 64
    proteins = [rng.gauss(2.5, 0.3) for _ in weights]
    worse = [w * (p + rng.gauss(0.01, 0.01)) for w, p in zip(weights, proteins, strict=True)]
    better = [w * p for w, p in zip(weights, proteins, strict=True)]
    paired = ratio_of([a - b for a, b in zip(worse, better, strict=True)], weights)
    unpaired = difference_of(ratio_of(worse, weights), ratio_of(better, weights))
    assert paired.value == pytest.approx(unpaired.value)
    assert paired.is_distinguishable() is True
    assert unpaired.is_distinguishable() is False


def test_equal_networks_are_called_different_as_rarely_as_it_says() -> None:
    """Five seeds each of the same setting: 5 % of the differences leave out 0; together with others, fewer."""
    rng, wrong, together = random.Random(1), 0, 0
    for _ in range(400):
        groups = [[rng.gauss(2.5, 0.01) for _ in range(5)] for _ in range(5)]
        found = [difference_of(mean_of(groups[0]), mean_of(other)) for other in groups[1:]]
        wrong += bool(found[0].is_distinguishable())
        together += any(one.is_distinguishable(simultaneous(4)) for one in found)
    assert wrong / 400 < 0.09
    assert together / 400 < 0.09


def test_a_difference_of_nothing_is_not_distinguishable() -> None:
    assert Estimate(value=0.0, error=0.0, freedom=7).is_distinguishable() is False
    assert simultaneous(5) == pytest.approx(0.99)
