"""Spearman's rank correlation with its bootstrap error."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 500


@dataclass(frozen=True, slots=True)
class Correlation:
    """Spearman's rho of pairs that have both numbers."""

    rho: float
    """NaN where one side does not vary."""
    standard_error: float
    """Spread over those bootstrap resamples of the pairs in which both sides vary; NaN where that is hardly one."""
    pairs: int

    def document(self) -> dict[str, float | int | None]:
        """For JSON, which has no NaN: null instead."""
        known = [None if math.isnan(number) else number for number in (self.rho, self.standard_error)]
        return {"rho": known[0], "standard_error": known[1], "pairs": self.pairs}


def spearman(x: NDArray[np.float64], y: NDArray[np.float64], *, seed: int = 0) -> Correlation:
    """Rank correlation, ties at their mean rank; pairs in which a number is missing (NaN) are left out."""
    both = np.isfinite(x) & np.isfinite(y)
    x, y = x[both], y[both]
    if len(x) < 3:
        return Correlation(float("nan"), float("nan"), len(x))
    source = np.random.default_rng(seed)
    resampled = [source.integers(len(x), size=len(x)) for _ in range(RESAMPLES)]
    # Of a column such as 0 and 1 with few ones some resamples hold none of these.
    found = [rho for chosen in resampled if not math.isnan(rho := _rho(x[chosen], y[chosen]))]
    spread = float(np.std(found, ddof=1)) if len(found) > 1 else math.nan
    return Correlation(_rho(x, y), spread, len(x))


def _rho(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    a, b = _ranks(x), _ranks(y)
    a, b = a - a.mean(), b - b.mean()
    spread = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / spread) if spread > 0 else float("nan")


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: NDArray[np.float64] = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    return ranks
