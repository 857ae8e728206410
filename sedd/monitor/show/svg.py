"""Charts as SVG text, for a page that needs nothing else."""

import math
from collections.abc import Sequence
from html import escape

from sedd.monitor.read.curves import ceiling
from sedd.monitor.show.cells import count_cell

Points = Sequence[tuple[float, float]]

_WIDTH, _HEIGHT = 720, 240
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 14, 34


def chart(name: str, curves: Sequence[tuple[str, Points]], *, unit: str) -> str:
    """Curves over steps with axes and a legend, as an <svg>; "" when no curve has two finite points.

    `curves` are (label, points); the class `curve-0`, `curve-1`, … of each is the page's to colour.
    """
    finite = [(label, [p for p in points if math.isfinite(p[1])]) for label, points in curves]
    drawn = [(label, points) for label, points in finite if len(points) > 1]
    if not drawn:
        return ""
    xs = [x for _, points in drawn for x, _ in points]
    ys = [y for _, points in drawn for _, y in points]
    top = max(ceiling([y for _, y in points]) for _, points in drawn)
    x_axis, y_axis = (min(xs), max(xs)), _padded(min(ys), top)
    drawn = [(label, [(x, min(y, y_axis[1])) for x, y in points]) for label, points in drawn]
    parts = [
        *_grid(x_axis, y_axis),
        *(_line(k, points, x_axis, y_axis) for k, (_, points) in enumerate(drawn)),
    ]
    parts += _legend([label for label, _ in drawn])
    title = f"{name}, {unit}" if unit else name
    title += f" (spikes up to {max(ys):.4g} are cut)" if max(ys) > y_axis[1] else ""
    return (
        f'<figure><figcaption>{escape(title)}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(title, quote=True)} over steps">{"".join(parts)}</svg></figure>'
    )


def ticks(low: float, high: float, *, most: int = 5) -> list[float]:
    """Round numbers between `low` and `high`, at most about `most` of them."""
    if high <= low:
        return [low]
    raw = (high - low) / most
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= raw)
    first = math.ceil(low / step)
    return [k * step for k in range(first, math.floor(high / step) + 1)]


def _padded(low: float, high: float) -> tuple[float, float]:
    pad = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return low - pad, high + pad


def _grid(x_axis: tuple[float, float], y_axis: tuple[float, float]) -> list[str]:
    parts = []
    for y in ticks(*y_axis):
        at = _y(y, y_axis)
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>')
        parts.append(f'<text class="tick" x="{_LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{y:.4g}</text>')
    for x in ticks(*x_axis, most=6):
        at = _x(x, x_axis)
        parts.append(
            f'<text class="tick" x="{at:.1f}" y="{_HEIGHT - 16}" text-anchor="middle">{count_cell(x)}</text>'
        )
    parts.append(f'<text class="tick" x="{_WIDTH - _RIGHT}" y="{_HEIGHT - 2}" text-anchor="end">step</text>')
    return parts


def _line(number: int, points: Points, x_axis: tuple[float, float], y_axis: tuple[float, float]) -> str:
    path = " ".join(f"{_x(x, x_axis):.1f},{_y(y, y_axis):.1f}" for x, y in points)
    return f'<polyline class="curve curve-{number}" points="{path}"/>'


def _legend(labels: Sequence[str]) -> list[str]:
    if len(labels) < 2:
        return []
    parts = []
    for k, label in enumerate(labels):
        x = _WIDTH - _RIGHT - 150 * (len(labels) - k)
        parts.append(f'<line class="curve curve-{k}" x1="{x}" x2="{x + 20}" y1="{_TOP}" y2="{_TOP}"/>')
        parts.append(f'<text class="tick" x="{x + 26}" y="{_TOP + 4}">{escape(label)}</text>')
    return parts


def _x(x: float, axis: tuple[float, float]) -> float:
    span = axis[1] - axis[0] or 1.0
    return _LEFT + (x - axis[0]) / span * (_WIDTH - _LEFT - _RIGHT)


def _y(y: float, axis: tuple[float, float]) -> float:
    return _TOP + (axis[1] - y) / (axis[1] - axis[0]) * (_HEIGHT - _TOP - _BOTTOM)
