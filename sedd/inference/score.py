"""Scores of mutants by one or several methods, part by part, with their standard errors."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sedd.errors import UsageError
from sedd.inference.conditionals import Denoiser
from sedd.inference.correlation import Correlation, measured_numbers, spearman
from sedd.inference.few_draws import is_hardly_known, score_remark
from sedd.inference.load_network import Trained
from sedd.inference.marginals import MARGINALS, Values, marginal_scores
from sedd.inference.paired_bound import bound_difference
from sedd.inference.variants import Variant, VariantTable, require_substitutions, windowed
from sedd.spec.inference import ScoreOptions
from sedd.units import counted

PART_VARIANTS = 1000
"""Mutants that are scored together: what an interrupted job loses at most, and many full batches."""

Progress = Callable[[int, int], None]
Parts = Mapping[str, Values]
"""By method: [variants, draws]."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The scores of a table's mutants."""

    table: VariantTable
    values: Parts
    windows: int
    """Mutants of proteins longer than the network was trained on, scored within a stretch around what differs."""

    def __repr__(self) -> str:  # as a notebook shows it: without the arrays
        mutants = counted(len(self.table.variants), "mutant")
        return f"<Scores of {mutants} by {', '.join(self.values)}: .score(method), .columns()>"

    def score(self, method: str) -> NDArray[np.float64]:
        """One number a mutant; high is good for it. Raises: UsageError: it was not scored by this method."""
        if method not in self.values:
            raise UsageError(f"there are no scores by '{method}': methods were {', '.join(self.values)}")
        mean: NDArray[np.float64] = self.values[method].mean(1)
        return mean

    def standard_error(self, method: str) -> NDArray[np.float64]:
        """Of each score, from what independent draws differ by; 0 where nothing is drawn."""
        drawn = self.values[method]
        draws = drawn.shape[1]
        return drawn.std(1, ddof=1) / draws**0.5 if draws > 1 else np.zeros(len(drawn))

    def remarks(self) -> list[str]:
        """Which errors are hardly known."""
        sets = {method: drawn.shape[1] for method, drawn in self.values.items()}
        return [score_remark(method, count) for method, count in sets.items() if is_hardly_known(count)]

    def columns(self) -> dict[str, Sequence[Any]]:
        """The input's columns and two for each method."""
        added = {
            name: column.tolist()
            for method in self.values
            for name, column in ((method, self.score(method)), (f"{method}_se", self.standard_error(method)))
        }
        return {**self.table.columns, **added}


def score_table(
    trained: Trained, table: VariantTable, how: ScoreOptions, *, progress: Progress = lambda done, of: None
) -> Scores:
    """Score all mutants of a table; `progress` hears of mutants done."""
    found = []
    for part in parts(table):
        found.append(score_part(trained.denoiser(), table.variants[part], how, longest=trained.longest))
        progress(part.stop, len(table.variants))
    return join(table, found, longest=trained.longest)


def parts(table: VariantTable) -> list[slice]:
    """Runs of mutants that are scored together. They do not depend on where a job was interrupted."""
    count = len(table.variants)
    return [slice(first, min(first + PART_VARIANTS, count)) for first in range(0, count, PART_VARIANTS)]


def score_part(
    denoiser: Denoiser,
    variants: Sequence[Variant],
    how: ScoreOptions,
    *,
    longest: int,
    progress: Progress = lambda done, of: None,
) -> dict[str, Values]:
    """The scores of some mutants by each method.

    Raises:
        DataError: insertions or deletions, for a method that knows substitutions alone.
    """
    within = [windowed(variant, longest) for variant in variants]
    require_substitutions(variants, how)
    found: dict[str, Values] = {}
    for method in how.methods:
        if method in MARGINALS:
            found[method] = marginal_scores(method, denoiser, within, how, progress=progress)
        else:
            found[method] = bound_difference(denoiser, within, how, progress=progress)
    return found


def join(table: VariantTable, found: Sequence[Parts], *, longest: int) -> Scores:
    """The scores of a table from those of its parts, in order."""
    values = {method: np.concatenate([part[method] for part in found]) for method in found[0]}
    windows = sum(max(len(v.wild_type), len(v.mutant)) > longest for v in table.variants)
    return Scores(table, values, windows)


def correlations(scores: Scores, measured: str) -> dict[str, Correlation]:
    """Of each method with a measured column. Raises: MisfitError for a column that is not there, or no numbers."""
    numbers = measured_numbers(scores.table, measured)
    return {method: spearman(scores.score(method), numbers) for method in scores.values}


def summary(trained: Trained, how: ScoreOptions, scores: Scores, measured: str | None) -> dict[str, Any]:
    """All mutants in a few numbers, for JSON."""
    compared = correlations(scores, measured) if measured else {}
    return {
        "run": trained.run,
        "step": trained.step,
        "mutants": len(scores.table.variants),
        "proteins": len({variant.protein for variant in scores.table.variants}),
        "windows": scores.windows,
        "options": how.model_dump(mode="json"),
        "methods": {
            method: {
                "mean": float(scores.score(method).mean()),
                "median_standard_error": float(np.median(scores.standard_error(method))),
                **({"spearman": compared[method].document()} if method in compared else {}),
            }
            for method in scores.values
        },
    }
