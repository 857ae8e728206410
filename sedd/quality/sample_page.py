"""Show an assessment as one HTML page: its numbers in a table, then a picture of the distributions."""

from collections.abc import Callable, Sequence
from html import escape
from statistics import median

import numpy as np

from sedd.charts import Bars, bar_panel, svg
from sedd.data.alphabet import TOKENS
from sedd.page import page, table
from sedd.quality.assess import Assessment, Measures
from sedd.quality.neighbours import CANDIDATES, WORD

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
_COLOURS = {"samples": "#b23a48", "training": "#8aa1b1", "held out": "#2b5d8a"}
_LENGTH_BINS, _IDENTITY_BINS = 24, 20


def sample_page(title: str, found: Assessment, more: Sequence[str] = ()) -> str:
    """Return the whole page; `title` says which network and how it was sampled, `more` is HTML that comes last."""
    sides = [found.samples] + ([found.held_out] if found.held_out is not None else [])
    rows = [(name, *(read(side) for side in sides)) for name, read in _rows().items()]
    heads = ("", "samples", "held-out proteins")[: 1 + len(sides)]
    body = [f"<h1>Samples</h1><p>{escape(title)}</p>", table(heads, rows, kind="numbers")]
    return page(title, [*body, f'<p class="note">{escape(_note(found))}</p>', sample_picture(found), *more])


def sample_picture(found: Assessment) -> str:
    """Return three panels: the samples beside the training data, and beside held-out proteins."""
    compositions = {
        "training": _composition(found.training_composition),
        "samples": _composition(found.samples.composition),
    }
    title = "Amino acids, % of residues"
    parts = bar_panel(title, list(LETTERS), compositions, _COLOURS, box=(20, 40, 820, 230))
    parts += bar_panel("Length, % of proteins", *_lengths(found), _COLOURS, box=(20, 330, 395, 230))
    if found.samples.identities is not None:
        title = "Identity with the nearest training protein, % of proteins"
        parts += bar_panel(title, *_identities(found), _COLOURS, box=(445, 330, 395, 230))
    return svg(parts, width=860, height=620)


def _composition(counts: Sequence[int]) -> list[float]:
    return [100 * counts[TOKENS.index(letter)] / max(1, sum(counts)) for letter in LETTERS]


def _lengths(found: Assessment) -> tuple[list[str], Bars]:
    edges = np.linspace(0, max(*found.training_lengths, *found.sample_lengths), _LENGTH_BINS + 1)
    labels = [f"{edge:.0f}" if place % 6 == 0 else "" for place, edge in enumerate(edges[:-1])]
    sets = {"training": found.training_lengths, "samples": found.sample_lengths}
    return labels, {name: _histogram(values, edges) for name, values in sets.items()}


def _identities(found: Assessment) -> tuple[list[str], Bars]:
    edges = np.linspace(0, 1, _IDENTITY_BINS + 1)
    labels = [f"{edge:.1f}" if place % 4 == 0 else "" for place, edge in enumerate(edges[:-1])]
    held_out = {"held out": found.held_out.identities} if found.held_out is not None else {}
    sets = held_out | {"samples": found.samples.identities}
    return labels, {name: _histogram(values or (), edges) for name, values in sets.items()}


def _histogram(values: Sequence[float], edges: np.ndarray) -> list[float]:
    counts, _ = np.histogram(values, edges)
    return [100 * float(count) / max(1, len(values)) for count in counts]


def _rows() -> dict[str, Callable[[Measures], str]]:
    def identity(read: Callable[[list[float]], float]) -> Callable[[Measures], str]:
        return lambda m: "–" if m.identities is None else f"{100 * read(list(m.identities)):.1f} %"

    def distinct(n: int) -> Callable[[Measures], str]:
        return lambda m: f"{100 * m.distinct_ngrams[n]:.2f} %"

    return {
        "proteins": lambda m: f"{m.proteins:,}",
        "of them different": lambda m: f"{m.distinct_proteins:,}",
        "residues": lambda m: f"{m.residues:,}",
        "composition: KL to training data, nats": lambda m: f"{m.divergence:.4f}",
        "residues in low complexity": lambda m: f"{100 * m.low_complexity:.1f} %",
        **{f"distinct {n}-grams": distinct(n) for n in (2, 3, 4)},
        "identity with nearest training protein, median": identity(median),
        "the same, highest": identity(max),
    }


def _note(found: Assessment) -> str:
    searched = (
        f"Nearest among {found.searched:,} training proteins: of the {CANDIDATES} that share the most words of {WORD} "
        "residues the best scoring local alignment (Smith-Waterman, BLOSUM62, a gap of k costs 11 + k); equal residues "
        "over the sample's length."
        if found.searched
        else "The training data was not at hand: no held-out proteins, no nearest neighbours."
    )
    several = (
        f", of which there are {found.validation:,}: some stand there several times, and n-grams repeat the more"
        if 0 < found.validation < found.samples.proteins
        else ""
    )
    return (
        f"A sample of this size from the training data's own composition has a KL of {found.divergence_by_chance:.4f}. "
        "Low complexity: first stage of SEG (Wootton and Federhen 1993), windows of 12, 2.2 and 2.5 bits. "
        "Lengths of training proteins are those that the network saw, cut to data.max_length. "
        f"Held-out proteins are validation proteins cut to the samples' lengths{several}. {searched}"
    )
