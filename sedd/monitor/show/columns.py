"""Choose the columns of the table for a given width."""

import dataclasses
import datetime as dt
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

from sedd.monitor.decide.snapshot import RunView
from sedd.monitor.decide.state import State
from sedd.monitor.read.losses import read_losses
from sedd.monitor.show.cells import (
    age_cell,
    bar,
    causes_text,
    count_cell,
    duration_cell,
    loss_cell,
    percent_cell,
    place_text,
    seconds_since,
    steps_cell,
)
from sedd.monitor.show.sparkline import sparkline

READABLE = 28
"""Columns: a sweep's points get so much before other columns get any."""
CURVE = ""
"""Title of the column of loss curves; what they are is seen."""
Cell = Callable[[RunView, dt.datetime, int], str]
"""The text for a run at a moment, in a column of that width; longer texts are cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One column.

    Attributes:
        rank: columns with low ranks are there first when room is scarce.
        gap: blank columns in front of it.
        most: how wide it may grow where its texts need it.
        spanned: whether a run's `why` may be written over it.
    """

    title: str
    cell: Cell
    rank: int
    width: int
    most: int
    gap: int = 1
    left: bool = False
    spanned: bool = True


def label_text(view: RunView, now: dt.datetime, width: int) -> str:
    return view.name


def state_text(view: RunView, now: dt.datetime, width: int) -> str:
    """`running ×3`: in its third attempt; `stopped` for `stopped by rule`, where that is too long."""
    word = str(view.state) if len(view.state) <= width else view.state.partition(" by ")[0]
    times = f"{word} ×{view.attempts}"
    return times if view.attempts > 1 and len(times) <= width else word


def _progress(view: RunView, now: dt.datetime, width: int) -> str:
    ratio = view.step / view.steps if view.steps else 0.0
    steps = steps_cell(view.step, view.steps).rjust(10)
    return f"{bar(ratio, width=width - len(steps) - 1)} {steps}"


def _curve(view: RunView, now: dt.datetime, width: int) -> str:
    return sparkline(read_losses(view.run.metrics), width=width)


def _eta(view: RunView, now: dt.datetime, width: int) -> str:
    return "done" if view.state is State.COMPLETED else duration_cell(view.eta_s)


def _risk(view: RunView, now: dt.datetime, width: int) -> str:
    """`12m`: what the loss of the node would lose; `4s–12m`: first what a kill of the training alone would."""
    least, most = age_cell(view.restart_s), age_cell(view.at_risk_s)
    both = f"{least}–{most}"
    return both if least != most and len(both) <= width else most


COLUMNS = (
    Column(title="run", cell=label_text, rank=0, width=17, most=44, gap=0, left=True, spanned=False),
    Column(title="state", cell=state_text, rank=0, width=13, most=13, gap=2, left=True, spanned=False),
    Column(title="progress", cell=_progress, rank=0, width=16, most=24, gap=2, left=True, spanned=False),
    Column(title="loss", cell=lambda v, t, w: loss_cell(v.loss), rank=1, width=5, most=5),
    Column(title=CURVE, cell=_curve, rank=8, width=8, most=20, left=True),
    Column(title="ppl", cell=lambda v, t, w: loss_cell(v.perplexity), rank=2, width=5, most=5),
    Column(title="res/s", cell=lambda v, t, w: count_cell(v.residues_per_s), rank=4, width=5, most=5),
    Column(title="eta", cell=_eta, rank=3, width=6, most=6),
    Column(
        title="ckpt", cell=lambda v, t, w: age_cell(seconds_since(v.checkpoint_t, t)), rank=5, width=4, most=4
    ),
    Column(title="risk", cell=_risk, rank=6, width=4, most=9),
    Column(title="ettr", cell=lambda v, t, w: percent_cell(v.ettr), rank=9, width=4, most=4, spanned=False),
    Column(
        title="interrupted by",
        cell=lambda v, t, w: causes_text(v.causes),
        rank=7,
        width=14,
        most=40,
        gap=2,
        left=True,
        spanned=False,
    ),
    Column(
        title="where",
        cell=lambda v, t, w: place_text(v),
        rank=10,
        width=12,
        most=40,
        gap=2,
        left=True,
        spanned=False,
    ),
)
"""From left to right."""


def fit(
    width: int, views: Sequence[RunView], labels: Sequence[str], *, now: dt.datetime
) -> tuple[Column, ...]:
    """The columns that fit `width`, grown where the texts of `views` need it and room is left."""
    chosen: list[Column] = []
    left = width
    columns = [_with_readable_points(c, width, views, labels) for c in COLUMNS]
    for column in sorted(columns, key=lambda c: c.rank):
        if column.rank and column.width + column.gap > left:
            break
        chosen.append(column)
        left -= column.width + column.gap
    grown = []
    for column in sorted(chosen, key=lambda c: (c.title in ("progress", CURVE), c.rank)):
        more = max(0, min(_need(column, views, labels, now), column.most) - column.width)
        more = min(more, max(0, left))
        left -= more
        grown.append(dataclasses.replace(column, width=column.width + more))
    order = [column.title for column in COLUMNS]
    return tuple(sorted(grown, key=lambda c: order.index(c.title)))


def _with_readable_points(
    column: Column, width: int, views: Sequence[RunView], labels: Sequence[str]
) -> Column:
    if column.title != "run":
        return column
    needed = max((cell_len(lab) for v, lab in zip(views, labels, strict=True) if v.point), default=0)
    spare = width - sum(c.width + c.gap for c in COLUMNS if not c.rank)
    more = max(0, min(min(needed, READABLE) - column.width, spare))
    return dataclasses.replace(column, width=column.width + more)


def put(text: str, column: Column) -> str:
    """`text` in exactly the column's width."""
    return put_width(text, column.width, left=column.left)


def put_width(text: str, width: int, *, left: bool = True) -> str:
    """`text` padded, or cut with an ellipsis, to exactly `width` columns of a terminal."""
    size = cell_len(text)
    if size > width:
        return set_cell_size(text, max(0, width - 1)) + "…"[:width]
    blank = " " * (width - size)
    return text + blank if left else blank + text


def _need(column: Column, views: Sequence[RunView], labels: Sequence[str], now: dt.datetime) -> int:
    if column.width == column.most:
        return column.width
    if column.title == "run":
        return max((cell_len(label) for label in labels), default=0)
    if column.title in ("progress", CURVE):
        return column.most
    return max((cell_len(column.cell(view, now, column.most)) for view in views), default=0)
