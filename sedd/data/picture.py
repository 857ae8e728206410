"""What is in a store, as a picture: lengths, composition, what was dropped or altered. SVG text."""

import math
from html import escape

from sedd.data.alphabet import TOKENS
from sedd.data.encode import TALLY
from sedd.data.manifest import Manifest, SplitManifest

PICTURE = "statistics.svg"
BINS_PER_DOUBLING = 4
"""Of the histogram of lengths: bin b holds lengths from 2^(b/4) up to 2^((b+1)/4)."""

_WIDTH, _PANEL, _LEFT, _FOOT = 760, 170, 60, 40
_COLOURS = {"train": "#4477aa", "validation": "#ee6677"}


def render_picture(manifest: Manifest) -> str:
    """An SVG of the lengths of both splits, each as a share of its own, their composition, and the tally."""
    lengths = {name: _shares(split.length_histogram) for name, split in manifest.splits.items()}
    first = min((_first(bins) for bins in lengths.values() if any(bins)), default=0)
    last = max(map(len, lengths.values()))
    bounds = [
        f"{2 ** (b / BINS_PER_DOUBLING):,.0f}" if b % BINS_PER_DOUBLING == 0 else "" for b in range(last)
    ]
    shown = {name: bins[first:] for name, bins in lengths.items()}
    letters = [t for t in range(len(TOKENS)) if any(s.composition[t] for s in manifest.splits.values())]
    composition = {name: _composition(split, letters) for name, split in manifest.splits.items()}
    told = [f"{TALLY[name]}: {count:,}" for name, count in manifest.tally.items() if count]
    height = 2 * (_PANEL + _FOOT) + 18 * len(told) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" '
        'font-size="12"><rect width="100%" height="100%" fill="white"/>',
        *_legend(manifest),
        *_panel("share of sequences by length, residues", 20, bounds[first:], shown),
        *_panel("share of residues by letter", 20 + _PANEL + _FOOT, [TOKENS[t] for t in letters], composition),
        *(_text(_LEFT, 2 * (_PANEL + _FOOT) + 18 * (k + 1), line) for k, line in enumerate(told)),
        "</svg>\n",
    ]  # fmt: skip
    return "\n".join(parts)


def length_bin(length: int) -> int:
    """The histogram's bin of a length in residues."""
    return math.floor(BINS_PER_DOUBLING * math.log2(length) + 1e-9)


def _composition(split: SplitManifest, letters: list[int]) -> list[float]:
    return _shares(tuple(split.composition[token] for token in letters))


def _shares(counts: tuple[int, ...]) -> list[float]:
    total = sum(counts)
    return [count / total if total else 0.0 for count in counts]


def _first(bins: list[float]) -> int:
    return next(b for b, share in enumerate(bins) if share)


def _panel(title: str, top: float, labels: list[str], bars: dict[str, list[float]]) -> list[str]:
    """Bars side by side for each split, over `labels`."""
    tallest = max((share for shares in bars.values() for share in shares), default=0.0) or 1.0
    room = _PANEL - 30
    base, step = top + _PANEL - 10, (_WIDTH - _LEFT - 10) / max(len(labels), 1)
    parts = [_text(_LEFT, top + 8, title), _text(4, base - room + 4, f"{tallest:.1%}")]
    for number, (name, shares) in enumerate(bars.items()):
        wide = step * 0.8 / len(bars)
        for place, share in enumerate(shares):
            x, high = _LEFT + place * step + number * wide, room * share / tallest
            parts.append(
                f'<rect x="{x:.1f}" y="{base - high:.1f}" width="{wide:.1f}" height="{high:.1f}" '
                f'fill="{_COLOURS[name]}"/>'
            )
    parts += [_text(_LEFT + place * step, base + 15, label) for place, label in enumerate(labels) if label]
    return parts


def _legend(manifest: Manifest) -> list[str]:
    return [
        f'<text x="{_WIDTH - 10}" y="{16 + 16 * k}" text-anchor="end" fill="{_COLOURS[name]}">'
        f"{name}: {split.sequences:,} sequences, {split.residues:,} residues</text>"
        for k, (name, split) in enumerate(manifest.splits.items())
    ]


def _text(x: float, y: float, text: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'
