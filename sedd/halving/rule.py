"""Which points of a sweep go on from a rung, which wait, which stop: a pure rule that no order of arrival changes.

Asynchronous successive halving (Li et al. 2020, arXiv 1810.05934) promotes the best of those that happen to have
arrived; so do Optuna and Ray Tune, and another order promotes others. Here a rung has a fixed number of points and of
places, and a point's fate is decided as soon as it is the same whatever the missing ones will bring.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fractions import Fraction


class Verdict(StrEnum):
    """What becomes of a point at its rung."""

    GO_ON = "go on"
    WAIT = "wait"
    STOP = "stop"


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a point has come to.

    Attributes:
        values: number of a rung to the metric there; lower is better, what is not finite is the worst.
        passed: how many rungs it was let pass; what was decided once stays so.
        is_stopped: the rule has stopped it.
        has_ended: it gave up or was cancelled: at every rung that it has not passed it counts as the worst.
    """

    values: Mapping[int, float] = field(default_factory=dict)
    passed: int = 0
    is_stopped: bool = False
    has_ended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """A verdict, and how the rung stood when it was made.

    Attributes:
        rung: its number, from 0.
        rank: of the point among those that have arrived, from 1.
        arrived, points, places: how many have arrived, how many will have, how many go on.
    """

    rung: int
    verdict: Verdict
    rank: int
    arrived: int
    points: int
    places: int


def judge(standings: Sequence[Standing], *, rungs: int, share: Fraction) -> dict[int, Decision]:
    """What becomes of each point that stands at a rung and has no decision yet, by its number.

    Of a rung's n points, ceil(n * share) go on. A point goes on when it would even if all missing ones were better,
    and stops when that many better ones have arrived; of equal ones the first in the sweep is the better.
    """
    decisions: dict[int, Decision] = {}
    points, contenders = len(standings), set(range(len(standings)))
    for rung in range(rungs):
        places = math.ceil(points * share)
        found = _judge_rung(standings, contenders, rung=rung, points=points, places=places)
        decisions |= {n: d for n, d in found.items() if not standings[n].has_ended}
        # One that has ended takes a place where there are not enough others: it is the worst of the next rung, too.
        virtual = {n for n, d in found.items() if standings[n].has_ended and d.verdict is Verdict.GO_ON}
        contenders = {n for n in contenders if standings[n].passed > rung} | virtual
        points = places
    return decisions


def _judge_rung(
    standings: Sequence[Standing], contenders: Iterable[int], *, rung: int, points: int, places: int
) -> dict[int, Decision]:
    """The decisions on those that have arrived and are not decided, ended ones included."""
    arrived = sorted((_value(standings[n], rung), n) for n in contenders if _has_arrived(standings[n], rung))
    decided = {n for _, n in arrived if standings[n].passed > rung or standings[n].is_stopped}
    free = places - sum(standings[n].passed > rung for _, n in arrived)
    missing = points - len(arrived)
    open_ = [n for _, n in arrived if n not in decided]
    ranks = {n: rank for rank, (_, n) in enumerate(arrived, 1)}
    return {
        n: Decision(
            rung=rung,
            verdict=_verdict(place, missing, free),
            rank=ranks[n],
            arrived=len(arrived),
            points=points,
            places=places,
        )
        for place, n in enumerate(open_, 1)
    }


def _verdict(place: int, missing: int, free: int) -> Verdict:
    """Of the `place`-th among those who compete with `missing` others for the `free` places."""
    if place > free:
        return Verdict.STOP
    return Verdict.GO_ON if place + missing <= free else Verdict.WAIT


def _has_arrived(standing: Standing, rung: int) -> bool:
    return rung in standing.values or standing.has_ended or standing.passed > rung


def _value(standing: Standing, rung: int) -> float:
    value = standing.values.get(rung, math.inf)
    is_out = standing.has_ended and standing.passed <= rung
    return value if math.isfinite(value) and not is_out else math.inf
