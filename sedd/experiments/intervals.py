"""Intervals of differences, written from their definitions: Student's t, paired and unpaired, and Welch's."""

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

CONFIDENCE = 0.95
_MOST_FREEDOM = 1e6
"""Degrees of freedom from which on t is normal to six digits."""
_PIECES = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A number with its error.

    Attributes:
        error: standard error; None where nothing tells it.
        freedom: degrees of freedom with which the error is known.
    """

    value: float
    error: float | None = None
    freedom: float = math.inf

    def interval(self, confidence: float = CONFIDENCE) -> tuple[float, float] | None:
        """Where the true value lies with that confidence; None without an error."""
        if self.error is None or not math.isfinite(self.error) or self.freedom < 1:
            return None
        reach = t_quantile(0.5 + confidence / 2, self.freedom) * self.error
        return self.value - reach, self.value + reach

    def is_distinguishable(self, confidence: float = CONFIDENCE) -> bool | None:
        """Whether the interval leaves out 0; None without an interval."""
        interval = self.interval(confidence)
        return None if interval is None else not interval[0] <= 0 <= interval[1]


def mean_of(values: Sequence[float]) -> Estimate:
    """The mean of independent values and its standard error; of one value none."""
    mean, sd = sum(values) / len(values), standard_deviation(values)
    error = None if sd is None else sd / math.sqrt(len(values))
    return Estimate(value=mean, error=error, freedom=len(values) - 1)


def standard_deviation(values: Sequence[float]) -> float | None:
    """Of the population that the values were drawn from; None of fewer than two."""
    if len(values) < 2:
        return None
    mean = sum(values) / len(values)
    return math.sqrt(sum((value - mean) ** 2 for value in values) / (len(values) - 1))


def ratio_of(sums: Sequence[float], weights: Sequence[float]) -> Estimate:
    """The ratio of two totals over blocks, as of nats and residues, and its error over blocks, to first order."""
    total, n = sum(weights), len(sums)
    ratio = sum(sums) / total
    if n < 2:
        return Estimate(value=ratio)
    scatter = sum((s - ratio * w) ** 2 for s, w in zip(sums, weights, strict=True))
    return Estimate(value=ratio, error=math.sqrt(n / (n - 1) * scatter) / total, freedom=n - 1)


def difference_of(one: Estimate, other: Estimate) -> Estimate:
    """`one` less `other`, independent of it: Welch's error, with Satterthwaite's degrees of freedom."""
    value = one.value - other.value
    if one.error is None or other.error is None:
        return Estimate(value=value)
    variances = one.error**2, other.error**2
    spread = sum(v**2 / e.freedom for v, e in zip(variances, (one, other), strict=True))
    freedom = sum(variances) ** 2 / spread if spread else min(one.freedom, other.freedom)
    return Estimate(value=value, error=math.sqrt(sum(variances)), freedom=freedom)


def simultaneous(comparisons: int, confidence: float = CONFIDENCE) -> float:
    """The confidence of each of this many intervals with which all of them hold together (Bonferroni)."""
    return 1 - (1 - confidence) / max(1, comparisons)


@functools.lru_cache(maxsize=1024)
def t_quantile(probability: float, freedom: float) -> float:
    """The t below which Student's t with `freedom` >= 1 degrees of freedom lies with that probability >= 1/2."""
    freedom = min(freedom, _MOST_FREEDOM)
    # With t = sqrt(freedom) tan(angle) the density is cos(angle) ** (freedom - 1), times a constant. It falls with the
    # angle, so Newton's method, begun at 0, comes nearer from one side.
    angle = 0.0
    for _ in range(200):
        density = _constant(freedom) * math.cos(angle) ** (freedom - 1)
        step = (probability - 0.5 - _mass(angle, freedom)) / density
        angle = min(angle + step, math.pi / 2)
        if step <= 1e-12 * angle:
            break
    return math.sqrt(freedom) * math.tan(angle)


def _mass(angle: float, freedom: float) -> float:
    """The probability between 0 and the t of that angle, by Simpson's rule."""
    if freedom < 2:
        return 0.5 - _tail(angle, freedom)
    # Beyond twelve standard deviations there is nothing left to add.
    angle = min(angle, math.atan(12 / math.sqrt(freedom))) if freedom > 100 else angle
    step = angle / _PIECES
    return _constant(freedom) * _simpson(
        [math.cos(k * step) ** (freedom - 1) for k in range(_PIECES + 1)], step
    )


def _tail(angle: float, freedom: float) -> float:
    """The probability beyond the t of that angle. Below 2 degrees of freedom the density falls steeply at its end.

    With x = pi/2 - angle it is sin(x) ** (freedom - 1); over y = x ** freedom what is left of that is nearly constant.
    """
    step = (math.pi / 2 - angle) ** freedom / _PIECES
    x = [(k * step) ** (1 / freedom) for k in range(1, _PIECES + 1)]
    heights = [1.0, *((math.sin(each) / each) ** (freedom - 1) for each in x)]
    return _constant(freedom) * _simpson(heights, step) / freedom


def _simpson(heights: Sequence[float], step: float) -> float:
    """The integral over an even number of pieces."""
    return (heights[0] + heights[-1] + 4 * sum(heights[1::2]) + 2 * sum(heights[2:-1:2])) * step / 3


def _constant(freedom: float) -> float:
    return math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(math.pi)
