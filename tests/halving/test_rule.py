"""The rule of halving sweeps: no order of arrival changes what becomes of a point."""

import math
import random
from dataclasses import replace
from fractions import Fraction

import pytest

from sedd.halving.rule import Decision, Standing, Verdict, judge

THIRD = Fraction(1, 3)


def arrived(*values: float | None) -> list[Standing]:
    """Points at the first rung; None has not arrived."""
    return [Standing() if value is None else Standing(values={0: value}) for value in values]


def verdicts(standings: list[Standing], *, rungs: int = 1, share: Fraction = THIRD) -> dict[int, str]:
    return {n: d.verdict.value for n, d in judge(standings, rungs=rungs, share=share).items()}


def simulated(
    metric: list[list[float]], share: Fraction, order: random.Random, ended: frozenset[int] = frozenset()
) -> list[tuple[int, bool]]:
    """Rungs passed and whether stopped, of each point, when one after the other arrives in this order.

    `metric`: of each point its value at each rung. Points in `ended` give up before their first rung.
    """
    rungs = len(metric[0])
    standings = [Standing(has_ended=n in ended) for n in range(len(metric))]
    while True:
        for n, decision in judge(standings, rungs=rungs, share=share).items():
            if decision.verdict is Verdict.GO_ON:
                standings[n] = replace(standings[n], passed=decision.rung + 1)
            elif decision.verdict is Verdict.STOP:
                standings[n] = replace(standings[n], is_stopped=True)
        training = [
            n
            for n, s in enumerate(standings)
            if not (s.is_stopped or s.has_ended or s.passed in s.values or s.passed == rungs)
        ]
        if not training:
            return [(s.passed, s.is_stopped) for s in standings]
        n = order.choice(training)
        rung = standings[n].passed
        standings[n] = replace(standings[n], values={**standings[n].values, rung: metric[n][rung]})


def by_definition(metric: list[list[float]], share: Fraction) -> list[int]:
    """Rungs that each point passes in synchronous successive halving: the best ceil(n * share) of those there."""
    passed, there = [0] * len(metric), list(range(len(metric)))
    for rung in range(len(metric[0])):
        there = sorted(there, key=lambda n: (metric[n][rung], n))[: math.ceil(len(there) * share)]
        for n in there:
            passed[n] += 1
    return passed


@pytest.mark.parametrize("seed", range(40))
def test_any_order_of_arrival_ends_as_synchronous_halving(seed: int) -> None:
    draw = random.Random(seed)
    points, rungs = draw.randint(2, 12), draw.randint(1, 3)
    share = draw.choice([THIRD, Fraction(1, 2), Fraction(3, 4), Fraction(1, 10)])
    # Few values, so that many are equal.
    metric = [[float(draw.randint(0, 4)) for _ in range(rungs)] for _ in range(points)]
    expected = [(passed, passed < rungs) for passed in by_definition(metric, share)]
    for order in range(5):
        assert simulated(metric, share, random.Random(1000 * seed + order)) == expected


@pytest.mark.parametrize("seed", range(20))
def test_points_that_gave_up_count_as_the_worst_in_any_order(seed: int) -> None:
    draw = random.Random(seed)
    metric = [[draw.random(), draw.random()] for _ in range(9)]
    ended = frozenset(draw.sample(range(9), draw.randint(1, 7)))
    worst = [[math.inf, math.inf] if n in ended else values for n, values in enumerate(metric)]
    expected = by_definition(worst, THIRD)
    for order in range(5):
        found = simulated(metric, THIRD, random.Random(order), ended)
        assert all(found[n][0] == expected[n] for n in range(9) if n not in ended)
        assert all(stopped == (passed < 2) for n, (passed, stopped) in enumerate(found) if n not in ended)


def test_a_point_is_decided_as_soon_as_the_missing_ones_cannot_change_it() -> None:
    assert verdicts(arrived(0.1, 0.2, 0.3, None, None, None, None, None, None)) == {
        0: "wait",
        1: "wait",
        2: "wait",
    }
    assert verdicts(arrived(0.1, 0.2, 0.3, 0.4, None, None, None, None, None))[3] == "stop"
    assert verdicts(arrived(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, None, None)) == {
        0: "go on",
        **dict.fromkeys((1, 2), "wait"),
        **dict.fromkeys((3, 4, 5, 6), "stop"),
    }


def test_of_equal_points_the_first_in_the_sweep_goes_on() -> None:
    assert verdicts(arrived(0.5, 0.5, 0.5)) == {0: "go on", 1: "stop", 2: "stop"}


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_is_the_worst(value: float) -> None:
    assert verdicts(arrived(value, 0.9, 0.8)) == {0: "stop", 1: "stop", 2: "go on"}


def test_a_share_is_rounded_up_and_exact() -> None:
    (one,) = [d for d in judge(arrived(*range(27)), rungs=1, share=THIRD).values() if d.rank == 9]
    assert one == Decision(rung=0, verdict=Verdict.GO_ON, rank=9, arrived=27, points=27, places=9)
    assert list(verdicts(arrived(0.1, 0.2, 0.3, 0.4)).values()) == ["go on", "go on", "stop", "stop"]


def test_what_was_decided_stays_when_one_that_gave_up_comes_back_better() -> None:
    standings = arrived(0.0, 0.2, 0.3, 0.4)
    standings[1] = replace(standings[1], passed=1)
    standings[2] = replace(standings[2], passed=1)
    standings[3] = replace(standings[3], is_stopped=True)
    assert verdicts(standings) == {0: "stop"}


def test_who_comes_to_the_second_rung_waits_only_for_those_who_will_come_there() -> None:
    first = [Standing(values={0: n / 10}, passed=int(n < 3), is_stopped=n >= 3) for n in range(9)]
    first[1] = replace(first[1], values={0: 0.1, 1: 0.5})
    assert verdicts(first, rungs=2) == {1: "wait"}
    first[0] = replace(first[0], values={0: 0.0, 1: 0.6})
    assert verdicts(first, rungs=2) == {1: "wait", 0: "stop"}
