"""Read the curves of a run from metrics.jsonl."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

_MOST = 4000
"""Rows of a curve: more than any screen has columns."""

Points = tuple[tuple[float, float], ...]
"""(step, value), by step."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Curves:
    """What was logged, thinned out to a few thousand steps; every validation is kept."""

    loss: Points = ()
    learning_rate: Points = ()
    validation_bound: Points = ()
    parent_validation_bound: Points = ()
    """On the validation set of the network that a fine-tuning started from."""


def read_curves(path: Path) -> Curves:
    """The curves of a run so far; empty ones when there is no file yet. Raises: OSError when it may not be read."""
    try:
        return parse_curves(path.read_bytes())
    except FileNotFoundError:
        return Curves()


def parse_curves(content: bytes) -> Curves:
    """The curves in a metrics file; unfinished lines are passed over."""
    lines = content.split(b"\n")
    stride = max(1, len(lines) // _MOST)
    thin = [line for i, line in enumerate(lines) if i % stride == 0 or b"validation_bound" in line]
    rows = [row for line in thin if (row := _parse(line)) is not None]
    return Curves(
        loss=_points(rows, "loss"),
        learning_rate=_points(rows, "learning_rate"),
        validation_bound=_points(rows, "validation_bound"),
        parent_validation_bound=_points(rows, "parent_validation_bound"),
    )


def means(points: Points, most: int) -> Points:
    """At most `most` points, each the mean of its neighbours; the curve itself when it has no more."""
    if len(points) <= most:
        return points
    edges = [len(points) * k // most for k in range(most + 1)]
    groups = [points[a:b] for a, b in pairwise(edges)]
    return tuple((sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups)


def _points(rows: Sequence[dict[str, Any]], key: str) -> Points:
    return tuple((float(r["step"]), float(r[key])) for r in rows if isinstance(r.get(key), int | float))


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and isinstance(row.get("step"), int | float) else None
