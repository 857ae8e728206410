"""Draw a curve in text, with braille characters of two by four dots."""

import math
from collections.abc import Sequence

from sedd.charts import axis_end, tick_labels

_DOTS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))
"""Bits of a braille character, by column and row from the top."""
_EMPTY = 0x2800
_NOTHING = 1e-30
"""Of a smaller value the picture says 0: its label would be wider than the axis."""


def plot(points: Sequence[tuple[float, float]], *, width: int, height: int) -> list[str]:
    """`height` lines of curve and one of axis, none wider than `width`; the scale is written on both axes.

    Each column shows the mean of its points; spikes are cut where the label of the upper end says `≥`. Empty for
    fewer than two finite points.
    """
    finite = [
        (x, y if abs(y) > _NOTHING else 0.0) for x, y in points if math.isfinite(x) and math.isfinite(y)
    ]
    if len(finite) < 2 or finite[0][0] == finite[-1][0]:
        return []
    room = width - 10
    columns = _columns(finite, 2 * room)
    low, top = min(y for _, y in columns), max(y for _, y in columns)
    high = axis_end([y for _, y in columns])
    cells = _draw([(x, min(y, high)) for x, y in columns], low, high, room, height)
    ends = tick_labels([low, high] if high > low else [low])
    labels = {height - 1: ends[0]}
    if high > low:
        labels[0] = ("≥" if top > high else "") + ends[1]
    lines = [f"{labels.get(r, ''):>8} ┤{line}".rstrip() for r, line in enumerate(cells)]
    first, last = f"{finite[0][0]:.0f}", f"step {finite[-1][0]:.0f}"
    return [*lines, f"{'':>8} └{first}{last.rjust(room - len(first))}"]


def _columns(points: Sequence[tuple[float, float]], count: int) -> list[tuple[int, float]]:
    """(column, mean of the points in it) for the columns that have any."""
    first, span = points[0][0], points[-1][0] - points[0][0]
    sums: dict[int, tuple[float, int]] = {}
    for x, y in points:
        column = min(count - 1, int((x - first) / span * count))
        total, number = sums.get(column, (0.0, 0))
        sums[column] = (total + y, number + 1)
    return [(column, total / number) for column, (total, number) in sorted(sums.items())]


def _draw(
    columns: Sequence[tuple[int, float]], low: float, high: float, width: int, height: int
) -> list[str]:
    rows = 4 * height
    span = high - low if high > low else math.inf
    cells = [[_EMPTY] * width for _ in range(height)]
    # Divided first: of tiny spans the inverse is infinite.
    dots = [(x, rows - 1 - round((y - low) / span * (rows - 1))) for x, y in columns]
    for (x0, y0), (x1, y1) in zip(dots, [*dots[1:], dots[-1]], strict=True):
        for x in range(x0, max(x0 + 1, x1)):
            # A straight line to the next point, so that steep falls do not break the curve apart.
            begin = y0 + round((y1 - y0) * (x - x0) / max(1, x1 - x0))
            end = y0 + round((y1 - y0) * (x + 1 - x0) / max(1, x1 - x0))
            for y in range(min(begin, end), max(begin, end) + 1):
                cells[y // 4][x // 2] |= _DOTS[x % 2][y % 4]
    return ["".join(chr(cell) if cell != _EMPTY else " " for cell in row) for row in cells]
