"""Spearman's rank correlation with a measured column, and its bootstrap error."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sedd.complaints import clip
from sedd.errors import MisfitError, did_you_mean
from sedd.inference.variants import VariantTable
from sedd.units import counted, decimal_comma_hint

RESAMPLES = 500
FEWEST = 3
"""Pairs; with two, every correlation is 1 or -1."""
MISSING = ("", "-", "na", "n/a", "nan", "none", "null")
"""Cells, in any case, that say that nothing was measured."""


@dataclass(frozen=True, slots=True)
class Correlation:
    """Spearman's rho of pairs that have both numbers."""

    rho: float
    """NaN where one side does not vary."""
    standard_error: float
    """Spread over those bootstrap resamples of the pairs in which both sides vary; NaN where that is hardly one."""
    pairs: int

    def text(self) -> str:
        """`0.512 ± 0.034 (200 pairs)`, or why there is none."""
        pairs = counted(self.pairs, "pair")
        if self.pairs < FEWEST:
            return f"not computed: {pairs} with both numbers, at least {FEWEST} are needed"
        if math.isnan(self.rho):
            return f"not computed: one side of the {pairs} does not vary"
        error = "error not known" if math.isnan(self.standard_error) else f"± {self.standard_error:.3f}"
        return f"{self.rho:.3f} {error} ({pairs})"

    def document(self) -> dict[str, float | int | None]:
        """For JSON, which has no NaN: null instead."""
        known = [None if math.isnan(number) else number for number in (self.rho, self.standard_error)]
        return {"rho": known[0], "standard_error": known[1], "pairs": self.pairs}


def measured_numbers(table: VariantTable, measured: str) -> NDArray[np.float64]:
    """A column as numbers, NaN where a cell is empty or says that the value is missing. Raises: MisfitError."""
    if measured not in table.columns:
        seen = ", ".join(table.columns)
        raise MisfitError(
            f"no column '{measured}': the table has {seen}",
            hint=did_you_mean(measured, table.columns) or "--measured names one of these",
        )
    cells = table.columns[measured]
    numbers = np.full(len(cells), np.nan)
    for row, cell in enumerate(cells):
        if cell.casefold() not in MISSING:
            try:
                numbers[row] = float(cell)
            except ValueError as e:
                where = f"{table.source}:{table.lines[row]}: " if table.lines else ""
                raise MisfitError(
                    f"{where}column '{measured}' holds '{clip(cell)}', which is not a number",
                    hint=decimal_comma_hint(cell) or "a value that is missing is an empty cell, or NA",
                ) from e
    return numbers


def spearman(x: NDArray[np.float64], y: NDArray[np.float64], *, seed: int = 0) -> Correlation:
    """Rank correlation, ties at their mean rank; pairs in which a number is missing (NaN) are left out."""
    both = np.isfinite(x) & np.isfinite(y)
    x, y = x[both], y[both]
    if len(x) < FEWEST:
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
