"""How much two groups of runs differ, with the narrowest interval that there is ground for."""

import math
from dataclasses import dataclass
from enum import StrEnum

from sedd.experiments.groups import Group
from sedd.experiments.intervals import Estimate, difference_of, ratio_of


class Method(StrEnum):
    """How the error of a difference was found."""

    SEEDS = "seeds"
    """Welch's interval over seeds: it speaks of the settings."""
    PAIRED = "paired"
    """Over the blocks of one validation set: it speaks of these networks."""
    UNPAIRED = "unpaired"
    """From both bounds' own errors: other proteins, or an evaluation of each."""
    NONE = "none"
    """Nothing tells the error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A group less the reference: above 0 it is worse."""

    estimate: Estimate
    method: Method

    @property
    def interval(self) -> tuple[float, float] | None:
        return self.estimate.interval()

    @property
    def is_distinguishable(self) -> bool | None:
        """By the 95 % interval of this difference alone; None where there is no interval."""
        return self.estimate.is_distinguishable()


def compare(one: Group, other: Group, metric: str) -> Difference | None:
    """One group less another, with the narrowest interval that there is ground for.

    What a halving sweep has stopped is compared at its rung, with the other's validation there. None where one of the
    groups has no such metric.
    """
    stops = [step for step in (one.stopped_at, other.stopped_at) if step is not None]
    if stops:
        one, other = (group.until(min(stops), metric) for group in (one, other))
    if one.estimate is None or other.estimate is None:
        return None
    if one.n > 1 and other.n > 1:
        return Difference(estimate=difference_of(one.estimate, other.estimate), method=Method.SEEDS)
    plain = Estimate(value=one.estimate.value - other.estimate.value)
    if metric == "validation":
        first, second = _blocks(one), _blocks(other)
        if first is not None and second is not None:
            if first.proteins == second.proteins:
                nats = [a - b for a, b in zip(first.nats, second.nats, strict=True)]
                return Difference(estimate=ratio_of(nats, first.residues), method=Method.PAIRED)
            bounds = [ratio_of(blocks.nats, blocks.residues) for blocks in (first, second)]
            return Difference(estimate=difference_of(*bounds), method=Method.UNPAIRED)
    if one.n == other.n == 1 and one.estimate.error is not None and other.estimate.error is not None:
        return Difference(estimate=difference_of(one.estimate, other.estimate), method=Method.UNPAIRED)
    return Difference(estimate=plain, method=Method.NONE)


@dataclass(frozen=True, slots=True)
class _Blocks:
    """A validation by blocks; of several seeds the mean of their nats."""

    proteins: str
    nats: tuple[float, ...]
    residues: tuple[int, ...]


def _blocks(group: Group) -> _Blocks | None:
    """The last validation by blocks; None where a run has none, or another set than the others."""
    rows = [r.last for r in group.results if r.last is not None and r.last.step == r.step]
    if len(rows) < group.n or len({row.proteins for row in rows}) != 1:
        return None
    nats = [math.fsum(values) / len(rows) for values in zip(*(row.nats for row in rows), strict=True)]
    return _Blocks(rows[0].proteins, tuple(nats), rows[0].residues)
