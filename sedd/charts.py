"""Draw charts as SVG text that needs no other file: curves over steps, bars side by side, heat maps."""

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape

from sedd.units import format_count

Points = Sequence[tuple[float, float]]
Bars = Mapping[str, Sequence[float]]
"""Name of a set → its value in each bin."""

_WIDTH, _HEIGHT = 720, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 14, 34
_LEGEND_WIDTH, _LEGEND_ROW = 640, 16
_LEGEND_LETTERS = {1: 81, 2: 39}
"""By the columns of a legend, letters of a label that fit."""
_SHORT_LABEL = 16
"""Letters of a curve's label that fit beside another one at the top of the chart."""
_CELL, _BAND, _MAP_LEFT, _SHADES = 11, 66, 40, 8
"""Of a heat map: width of a cell, positions of a band, margin, and shades on either side of 0."""
_RED, _PALE, _BLUE = (178, 24, 43), (247, 247, 247), (33, 102, 172)
_USUAL, _STRETCH, _SPIKY = 0.95, 4.0, 40
"""A curve of at least `_SPIKY` points, of which the largest twentieth makes the axis over `_STRETCH` times as long."""


def line_chart(
    title: str, curves: Sequence[tuple[str, Points]], *, unit: str = "", over: str = "step"
) -> str:
    """Return a <figure> of (label, points) curves; "" when none has a finite point. `over` names the x axis.

    A curve of a single point is a dot. Where more than one curve is given there is a legend of those that are drawn.
    The page sets the colours: the curves have the classes `curve-0`, `curve-1`, …, of which it knows eight.
    """
    finite = [(label, [p for p in points if math.isfinite(p[1])]) for label, points in curves]
    drawn = [(label, points) for label, points in finite if points]
    if not drawn:
        return ""
    colours = [number for number, (_, points) in enumerate(finite) if points]
    xs = [x for _, points in drawn for x, _ in points]
    ys = [y for _, points in drawn for _, y in points]
    top = max(axis_end([y for _, y in points]) for _, points in drawn)
    x_axis = (min(xs), max(xs)) if min(xs) < max(xs) else _padded(xs[0], xs[0])
    y_axis = _padded(min(ys), top)
    drawn = [(label, [(x, min(y, y_axis[1])) for x, y in points]) for label, points in drawn]
    title = f"{title}, {unit}" if unit else title
    title += f" (spikes up to {max(ys):.4g} are cut)" if max(ys) > y_axis[1] else ""
    parts = [
        *_grid(x_axis, y_axis, over),
        *(_curve(k, points, x_axis, y_axis) for k, (_, points) in zip(colours, drawn, strict=True)),
    ]
    height = float(_HEIGHT)
    if len(curves) > 1:
        parts += _curve_legend(colours, drawn)
        labels = [label for label, _ in drawn]
        height += 0 if _fits_inside(labels) else _LEGEND_ROW * math.ceil(len(drawn) / _columns(labels))
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {_WIDTH} {height}" role="img" '
        f'aria-label="{escape(title, quote=True)} over {escape(over, quote=True)}s">{"".join(parts)}</svg></figure>'
    )


def bar_panel(
    title: str, labels: Sequence[str], sets: Bars, colours: Mapping[str, str], *, box: tuple[float, ...]
) -> list[str]:
    """Return the parts of a bar chart in `box` (left, top, width, height): sets side by side in each bin.

    `labels` name the bins, one letter centred, longer ones from the bin's left edge; an empty one is left out.
    """
    left, top, width, height = box
    highest = max((value for values in sets.values() for value in values), default=1.0) or 1.0
    slot, bottom, scale = (width - 30) / max(1, len(labels)), top + height - 20, (height - 46) / highest
    bar = 0.8 * slot / max(1, len(sets))
    parts = [text(left, top - 12, title, 'font-size="14"')]
    for level in (0.0, highest / 2, highest):
        y = bottom - level * scale
        parts.append(f'<line x1="{left + 30}" x2="{left + width}" y1="{y:.1f}" y2="{y:.1f}" stroke="#ddd"/>')
        parts.append(text(left + 26, y + 4, f"{level:.3g}", 'text-anchor="end" fill="#555"'))
    for number, (name, values) in enumerate(sets.items()):
        first, colour = left + 30 + 0.1 * slot + number * bar, colours[name]
        for bin_, value in enumerate(values):
            high = value * scale
            parts.append(_rectangle(first + bin_ * slot, bottom - high, bar, high, colour))
        x = left + width - 95 * (len(sets) - number)
        parts += [_rectangle(x, top, 10, 10, colour), text(x + 15, top + 10, name)]
    for bin_, label in enumerate(labels):
        anchor, middle = ("middle", 0.5) if len(label) == 1 else ("start", 0.0)
        x = left + 30 + (bin_ + middle) * slot
        parts += [text(x, bottom + 16, label, f'text-anchor="{anchor}" fill="#555"')] if label else []
    return parts


def heat_map(
    title: str, rows: Sequence[str], letters: str, values: Sequence[Sequence[float]], *, first: int, unit: str
) -> str:
    """Return an <svg> of values by row and position, in bands: red below 0, blue above, nothing for NaN.

    `letters` stand at the positions, with a dot in the row of the same name; `first` is the first position's number.
    """
    there = sorted(abs(value) for row in values for value in row if math.isfinite(value))
    # Of a hundred cells two may be deeper than the deepest colour.
    reach = (there[int(0.98 * (len(there) - 1))] if there else 0.0) or 1.0
    starts = range(0, len(letters), _BAND)
    high = len(rows) * _CELL + 26
    parts = [
        text(_MAP_LEFT, 13, title, 'font-size="12" fill="#222"'),
        *(
            _rectangle(_MAP_LEFT + 6 * (k + _SHADES), 19, 6, 8, _shade(k))
            for k in range(-_SHADES, _SHADES + 1)
        ),
        text(
            _MAP_LEFT + 12 * _SHADES + 12,
            26.5,
            f"{-reach:.2g} to {reach:.2g} {unit}",
            'font-size="9" fill="#444"',
        ),
    ]
    for band, start in enumerate(starts):
        stop = min(start + _BAND, len(letters))
        shades = [[_shade_of(value, reach) for value in row[start:stop]] for row in values]
        parts += _band(rows, letters[start:stop], shades, first + start, 34 + band * high)
    width = _MAP_LEFT + min(len(letters), _BAND) * _CELL + 10
    return svg(parts, width=max(width, 420), height=44 + len(starts) * high)


def svg(parts: Iterable[str], *, width: float, height: float) -> str:
    """Return a whole picture on white, for a file of its own or for a page."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
        f'font-size="12"><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def text(x: float, y: float, words: str, attributes: str = "") -> str:
    """Return a <text> whose first letter stands on (x, y)."""
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{escape(words)}</text>'


def axis_end(values: Sequence[float]) -> float:
    """Return where an axis should end: at the largest value, or below a few spikes that would flatten all the rest."""
    ordered = sorted(values)
    usual, low = ordered[int(_USUAL * (len(ordered) - 1))], ordered[0]
    if len(ordered) < _SPIKY or usual == low or ordered[-1] - low <= _STRETCH * (usual - low):
        return ordered[-1]
    return usual + (usual - low) / 2


def ticks(low: float, high: float, *, most: int = 5) -> list[float]:
    """Return round numbers between `low` and `high`, at most about `most` of them."""
    if high <= low:
        return [low]
    raw = (high - low) / most
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw)
    first = math.ceil(low / step)
    return [k * step for k in range(first, math.floor(high / step) + 1)]


def tick_labels(values: Sequence[float], *, longest: int = 7) -> list[str]:
    """Return labels of at most `longest` characters that tell the values of an axis apart.

    Values that differ only in later digits are shown as the first one and what is added to it: `3e-4`, `+1e-8`.
    """
    for digits in (*range(4, longest), 3):  # three, where only the exponent makes them long: 3.33e-4
        labels = [_shortest(value, digits) for value in values]
        if max(map(len, labels)) <= longest and len(set(labels)) == len(set(values)):
            return labels
    base = next(label for digits in (4, 3, 2, 1) if len(label := _shortest(values[0], digits)) <= longest)
    more = [_shortest(value - values[0], 2) for value in values[1:]]
    return [base, *(label if label.startswith("-") else f"+{label}" for label in more)]


def _shortest(value: float, digits: int) -> str:
    """Return `0.003` or, of smaller and very large values, `3e-5`."""
    if value == 0 or 1e-3 <= abs(value) < 1e6:
        return f"{value:.{digits}g}"
    mantissa, _, exponent = f"{value:.{digits - 1}e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def _padded(low: float, high: float) -> tuple[float, float]:
    pad = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return low - pad, high + pad


def _grid(x_axis: tuple[float, float], y_axis: tuple[float, float], over: str) -> list[str]:
    parts = []
    marks = ticks(*y_axis)
    for y, label in zip(marks, tick_labels(marks), strict=True):
        at = _y(y, y_axis)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(text(_LEFT - 6, at + 4, label, 'class="tick" text-anchor="end"'))
    for x in ticks(*x_axis, most=6):
        label = format_count(x).replace(" ", "")
        parts.append(text(_x(x, x_axis), _HEIGHT - 16, label, 'class="tick" text-anchor="middle"'))
    return [*parts, text(_WIDTH - _RIGHT, _HEIGHT - 2, over, 'class="tick" text-anchor="end"')]


def _curve(number: int, points: Points, x_axis: tuple[float, float], y_axis: tuple[float, float]) -> str:
    placed = [(_x(x, x_axis), _y(y, y_axis)) for x, y in points]
    if len(placed) == 1:
        return _dot(number, *placed[0])
    path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
    return f'<polyline class="curve curve-{number}" points="{path}"/>'


def _fits_inside(labels: Sequence[str]) -> bool:
    return len(labels) <= 2 and max(map(len, labels)) <= _SHORT_LABEL


def _columns(labels: Sequence[str]) -> int:
    """Of a legend below the chart."""
    return 2 if max(map(len, labels)) <= _LEGEND_LETTERS[2] else 1


def _dot(number: int, x: float, y: float) -> str:
    return f'<circle class="dot curve-{number}" cx="{x:.1f}" cy="{y:.1f}" r="1.75"/>'


def _curve_legend(colours: Sequence[int], curves: Sequence[tuple[str, Points]]) -> list[str]:
    """Up to two short labels in the chart, others below it."""
    parts = []
    labels = [label for label, _ in curves]
    fits, columns = _fits_inside(labels), _columns(labels)
    longest = _LEGEND_LETTERS[columns]
    for place, (number, (label, points)) in enumerate(zip(colours, curves, strict=True)):
        if fits:
            x, y = _WIDTH - _RIGHT - 150 * (2 - place), _TOP
        else:
            row, column = divmod(place, columns)
            x, y = _LEFT + column * _LEGEND_WIDTH // columns, _HEIGHT + _LEGEND_ROW * row + 8
            label = label if len(label) <= longest else f"{label[: longest - 1]}…"
        line = f'<line class="curve curve-{number}" x1="{x}" x2="{x + 20}" y1="{y}" y2="{y}"/>'
        parts.append(line if len(points) > 1 else _dot(number, x + 10, y))
        parts.append(text(x + 26, y + 4, label, 'class="tick"'))
    return parts


def _band(
    rows: Sequence[str], letters: str, shades: Sequence[Sequence[int | None]], first: int, top: float
) -> list[str]:
    """Return the cells of each shade as one path, letters of the rows, dots, and every tenth number."""
    small = 'font-size="9" fill="#444" text-anchor='
    cells: dict[int, list[str]] = {}
    for row, line in enumerate(shades):
        for column, shade in enumerate(line):
            if shade is not None:
                corner = f"M{_MAP_LEFT + column * _CELL} {top + row * _CELL:g}"
                cells.setdefault(shade, []).append(f"{corner}h{_CELL}v{_CELL}h-{_CELL}z")
    parts = [f'<path fill="{_shade(shade)}" d="{"".join(cells[shade])}"/>' for shade in sorted(cells)]
    parts += [text(_MAP_LEFT - 5, top + k * _CELL + 8.5, row, f'{small}"end"') for k, row in enumerate(rows)]
    for column, letter in enumerate(letters):
        x = _MAP_LEFT + (column + 0.5) * _CELL
        if letter in rows:
            y = top + (rows.index(letter) + 0.5) * _CELL
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="1.6" fill="#222"/>')
        if column == 0 or (first + column) % 10 == 0:
            parts.append(text(x, top + len(rows) * _CELL + 11, str(first + column), f'{small}"middle"'))
    return parts


def _shade_of(value: float, reach: float) -> int | None:
    """Return a number from -_SHADES to _SHADES; None for what is not finite."""
    return max(-_SHADES, min(_SHADES, round(value / reach * _SHADES))) if math.isfinite(value) else None


def _shade(number: int) -> str:
    end, share = (_BLUE if number > 0 else _RED), abs(number) / _SHADES
    mixed = (round(pale + share * (full - pale)) for pale, full in zip(_PALE, end, strict=True))
    return "#" + "".join(f"{part:02x}" for part in mixed)


def _rectangle(x: float, y: float, width: float, height: float, colour: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}" fill="{colour}"/>'


def _x(x: float, axis: tuple[float, float]) -> float:
    span = axis[1] - axis[0] or 1.0
    return _LEFT + (x - axis[0]) / span * (_WIDTH - _LEFT - _RIGHT)


def _y(y: float, axis: tuple[float, float]) -> float:
    return _TOP + (axis[1] - y) / (axis[1] - axis[0]) * (_HEIGHT - _TOP - _BOTTOM)
