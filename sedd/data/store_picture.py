"""Draw what is in a store as SVG: lengths, composition, and what was dropped or altered."""

import math
from collections.abc import Sequence

from sedd.charts import bar_panel, svg, text
from sedd.data.alphabet import TOKENS
from sedd.data.encode import TALLY
from sedd.data.manifest import Manifest

PICTURE = "statistics.svg"
BINS_PER_DOUBLING = 4
"""Of the histogram of lengths: bin b holds lengths from 2^(b/4) up to 2^((b+1)/4)."""

_COLOURS = {"train": "#4477aa", "validation": "#ee6677"}
_WIDTH, _PANEL, _TOP = 760, 190, 44


def render_picture(manifest: Manifest) -> str:
    """Return an SVG of the lengths of both splits, each in percent of its own, their composition, and the tally."""
    splits = manifest.splits
    lengths = {name: _percent(split.length_histogram) for name, split in splits.items()}
    first = min(
        (next(b for b, share in enumerate(bins) if share) for bins in lengths.values() if any(bins)),
        default=0,
    )
    bounds = [_bound(b) for b in range(first, max(map(len, lengths.values())))]
    letters = [t for t in range(len(TOKENS)) if any(split.composition[t] for split in splits.values())]
    composition = {name: _percent([s.composition[t] for t in letters]) for name, s in splits.items()}
    sizes = [f"{name}: {s.sequences:,} sequences, {s.residues:,} residues" for name, s in splits.items()]
    tally = [f"{TALLY[name]}: {count:,}" for name, count in manifest.tally.items() if count]
    below = 2 * (_PANEL + _TOP) + 20
    parts = [
        *bar_panel("Length in residues, % of sequences", bounds, {n: b[first:] for n, b in lengths.items()}, _COLOURS,
                   box=(20, _TOP, _WIDTH - 40, _PANEL)),
        *bar_panel("Letters, % of residues", [TOKENS[t] for t in letters], composition, _COLOURS,
                   box=(20, 2 * _TOP + _PANEL, _WIDTH - 40, _PANEL)),
        *(text(50, below + 18 * k, line) for k, line in enumerate([*sizes, *tally])),
    ]  # fmt: skip
    return svg(parts, width=_WIDTH, height=below + 18 * len([*sizes, *tally]))


def length_bin(length: int) -> int:
    """Return the histogram's bin of a length in residues."""
    return math.floor(BINS_PER_DOUBLING * math.log2(length) + 1e-9)


def _bound(bin_: int) -> str:
    return f"{2 ** (bin_ / BINS_PER_DOUBLING):,.0f}" if bin_ % BINS_PER_DOUBLING == 0 else ""


def _percent(counts: Sequence[int]) -> list[float]:
    return [100 * count / max(1, sum(counts)) for count in counts]
