"""Scores as one HTML page that needs nothing else, or as the heat map alone (SVG)."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np

from sedd.charts import heat_map
from sedd.data.alphabet import TOKENS
from sedd.errors import UsageError
from sedd.inference.correlation import Correlation
from sedd.inference.load_network import Trained
from sedd.inference.score import Scores, correlations
from sedd.inference.variants import letters_of
from sedd.page import page, table
from sedd.rundir.atomic import write_output
from sedd.spec.inference import ScoreOptions
from sedd.units import counted

ROWS = "GAVLIMFWYPCSTNQHKRDE"
"""The twenty, like beside like."""
MOST_PROTEINS = 20
"""Whose heat maps one page holds."""


def write_score_page(
    path: Path, trained: Trained, how: ScoreOptions, scores: Scores, *, measured: str | None
) -> None:
    """The page; or, if the name ends in .svg, the first protein's heat map by the first method."""
    maps = heat_maps(scores)
    if path.suffix == ".svg":
        if not maps:
            raise UsageError(
                "there are no single substitutions to draw", hint="a page (.html) has the table alone"
            )
        write_output(path, maps[0])
        return
    compared = correlations(scores, measured) if measured else {}
    proteins, mutants = len({v.protein for v in scores.table.variants}), len(scores.table.variants)
    write_output(
        path,
        page(
            f"Scores under {trained.run}",
            [
                f"<h1>Scores of {counted(mutants, 'mutant')}</h1>",
                f"<p>{escape(trained.run)} at step {trained.step}; {counted(proteins, 'protein')}. "
                "A score is in nats, ln p(mutant) − ln p(wild type): "
                "above 0 the network prefers the mutant.</p>",
                _table(scores, compared, measured),
                *(f"<figure>{drawn}</figure>" for drawn in maps),
                _note(how, scores),
            ],
        ),
    )


def heat_maps(scores: Scores) -> list[str]:
    """SVG of each protein with single substitutions by each method."""
    groups: dict[tuple[str, bytes], list[int]] = {}
    for number, variant in enumerate(scores.table.variants):
        if variant.is_substitution and len(variant.sites) == 1:
            groups.setdefault((variant.protein, variant.wild_type.tobytes()), []).append(number)
    return [
        _heat_map(scores, method, protein, members)
        for (protein, _), members in list(groups.items())[:MOST_PROTEINS]
        for method in scores.values
    ]


def _heat_map(scores: Scores, method: str, protein: str, members: Sequence[int]) -> str:
    variants, found = scores.table.variants, scores.score(method)
    wild_type = variants[members[0]].wild_type
    matrix = np.full((len(ROWS), len(wild_type)), np.nan)
    for number in members:
        (site,) = variants[number].sites
        letter = TOKENS[variants[number].mutant[site]]
        if letter in ROWS:
            matrix[ROWS.index(letter), site] = found[number]
    return heat_map(
        f"{protein or 'wild type'}: {method}",
        ROWS,
        "".join(letters_of(wild_type)),
        matrix.tolist(),
        first=1 + scores.table.offset,
        unit="nats; red: worse than the wild type (dots)",
    )


def _table(scores: Scores, compared: dict[str, Correlation], measured: str | None) -> str:
    heads = ["", "mean score", "median standard error", *([f"Spearman with {measured}"] if measured else [])]
    rows = []
    for method in scores.values:
        error = f"{np.median(scores.standard_error(method)):.3f}" if _is_drawn(scores, method) else "–"
        cells = [f"{scores.score(method).mean():.3f}", error]
        if method in compared:
            cells.append(compared[method].text())
        rows.append([method, *cells])
    return table(heads, rows, kind="numbers")


def _is_drawn(scores: Scores, method: str) -> bool:
    """Whether a method has an error: one without asks the network once."""
    return bool(scores.values[method].shape[1] > 1)


def _note(how: ScoreOptions, scores: Scores) -> str:
    """What was asked of the methods on the page; nothing where that is no choice."""
    drawn = [method for method in scores.values if method in ("orders", "bound")]
    parts = [f"{' and '.join(drawn)}: {how.draws} draws, seed {how.seed}"] if drawn else []
    if "orders" in drawn:
        parts.append(f"orders: up to {how.hidden:.0%} of the other residues hidden, too")
    if how.sigma_bar is not None:
        parts.append(f"noise level {how.sigma_bar:g}")
    return f'<p class="note">{"; ".join(parts)}.</p>' if parts else ""
