"""An assessment as one SVG that needs nothing else: composition, lengths, nearest neighbours."""

from collections.abc import Sequence

import numpy as np

from sedd.data.alphabet import TOKENS
from sedd.quality.assess import Assessment

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
WIDTH, HEIGHT = 860, 620
_INK = {"samples": "#b23a48", "training": "#8aa1b1", "held out": "#2b5d8a"}
_BINS = 24

Bars = Sequence[tuple[str, Sequence[float]]]
"""Name of a set, and its share in each bin."""


def picture(found: Assessment) -> str:
    """Three panels: the samples beside the training data, and beside held-out proteins."""
    parts = [
        *_panel(20, 40, 820, 230, "Amino acids, % of residues", list(LETTERS), _compositions(found)),
        *_panel(20, 330, 395, 230, "Length, % of proteins", *_lengths(found)),
    ]
    if found.samples.identities is not None:
        title = "Identity with the nearest training protein, % of proteins"
        parts += _panel(445, 330, 395, 230, title, *_identities(found))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>'
    )


def _compositions(found: Assessment) -> Bars:
    def shares(counts: Sequence[int]) -> list[float]:
        total = max(1, sum(counts))
        return [100 * counts[TOKENS.index(letter)] / total for letter in LETTERS]

    return [("training", shares(found.training_composition)), ("samples", shares(found.samples.composition))]


def _lengths(found: Assessment) -> tuple[list[str], Bars]:
    highest = max(*found.training_lengths, *found.sample_lengths)
    edges = np.linspace(0, highest, _BINS + 1)
    labels = [f"{edge:.0f}" if place % 6 == 0 else "" for place, edge in enumerate(edges[:-1])]
    sets = [("training", found.training_lengths), ("samples", found.sample_lengths)]
    return labels, [(name, _histogram(values, edges)) for name, values in sets]


def _identities(found: Assessment) -> tuple[list[str], Bars]:
    edges = np.linspace(0, 1, 21)
    labels = [f"{edge:.1f}" if place % 4 == 0 else "" for place, edge in enumerate(edges[:-1])]
    sets = [("samples", found.samples.identities)]
    if found.held_out is not None:
        sets.insert(0, ("held out", found.held_out.identities))
    return labels, [(name, _histogram(values or (), edges)) for name, values in sets]


def _histogram(values: Sequence[float], edges: np.ndarray) -> list[float]:
    counts, _ = np.histogram(values, edges)
    return [100 * float(count) / max(1, len(values)) for count in counts]


def _panel(
    left: float, top: float, width: float, height: float, title: str, labels: Sequence[str], sets: Bars
) -> list[str]:
    """Bars side by side in each bin, with a scale, labels below and a legend."""
    highest = max((value for _, values in sets for value in values), default=1.0) or 1.0
    slot = (width - 30) / len(labels)
    bar = 0.8 * slot / len(sets)
    bottom = top + height - 20
    scale = (height - 46) / highest
    parts = [f'<text x="{left}" y="{top - 12}" font-size="14">{title}</text>']
    for level in (0.0, highest / 2, highest):
        y = bottom - level * scale
        parts.append(f'<line x1="{left + 30}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{left + 26}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{level:.3g}</text>'
        )
    for number, (name, values) in enumerate(sets):
        for place, value in enumerate(values):
            x = left + 30 + place * slot + 0.1 * slot + number * bar
            parts.append(
                f'<rect x="{x:.1f}" y="{bottom - value * scale:.1f}" width="{bar:.1f}" '
                f'height="{value * scale:.1f}" fill="{_INK[name]}"/>'
            )
        x = left + width - 95 * (len(sets) - number)
        parts.append(f'<rect x="{x}" y="{top}" width="10" height="10" fill="{_INK[name]}"/>')
        parts.append(f'<text x="{x + 15}" y="{top + 10}">{name}</text>')
    for place, label in enumerate(labels):
        anchor = "middle" if len(label) == 1 else "start"
        x = left + 30 + (place + (0.5 if anchor == "middle" else 0.0)) * slot
        parts.append(f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="{anchor}" fill="#555">{label}</text>')
    return parts
