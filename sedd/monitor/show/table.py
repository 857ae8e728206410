"""Render the table of runs: one line each, grouped by sweep or name, as wide as the terminal."""

import dataclasses
import datetime as dt
import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Group
from rich.text import Text

from sedd.monitor.decide.snapshot import RunView, Snapshot
from sedd.monitor.decide.state import BY_CARE, State
from sedd.monitor.decide.verdict import NO_ANSWER
from sedd.monitor.show.cells import STYLES, point_text, short_point_text
from sedd.monitor.show.columns import Column, fit, put, put_width
from sedd.units import counted, format_duration

FOLD = 24
"""Groups with more runs than this become a summary and their best runs."""
BEST = 3
TROUBLED = 3
"""Of a folded group's runs in trouble this many are shown besides."""
RECENT_S = 86400.0
"""Runs that ended longer ago are shown only when asked for."""
_NOTES = 5
_LEAST_WHY = 24
"""Columns in which the beginning of a reason can be understood."""
_WITH_WHY = frozenset(State) - {State.RUNNING, State.CHECKPOINTING, State.PREFLIGHT, State.COMPLETED}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    label: str
    view: RunView


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A group's heading, if it has one, and its rows."""

    heading: Text | None
    rows: tuple[_Row, ...]


def recent(snapshot: Snapshot) -> tuple[RunView, ...]:
    """The runs that are not final, or ended within a day."""
    return tuple(view for view in snapshot.runs if _is_recent(view, snapshot.taken))


def status_table(snapshot: Snapshot, views: Sequence[RunView], *, width: int, fold: bool = True) -> Group:
    """`views` of the snapshot as lines of at most `width` columns; large groups folded if `fold`."""
    parts = [_part(name, group, fold=fold) for name, group in _groups(views)]
    rows = [row for part in parts for row in part.rows]
    columns = fit(width, [row.view for row in rows], [row.label for row in rows], now=snapshot.taken)
    lines = [header_line(columns)]
    room = next(c.width for c in columns if c.title == "run")
    for part in parts:
        if part.heading is not None:
            if keys := _missing_keys(part, room):
                part.heading.append(f"  ({keys})", style="dim")
            part.heading.truncate(width, overflow="ellipsis")
            lines.append(part.heading)
        for row in part.rows:
            lines += _run_lines(row, columns, snapshot.taken, width)
    if len(parts) > 1:
        lines += [Text(""), *_wrapped(_counts(views), width)]
    lines += notes(snapshot, views)
    if (hidden := len(snapshot.runs) - len(views)) > 0:
        lines.append(Text(f"{hidden} that ended earlier: sedd status --all", style="dim"))
    return Group(*lines)


def header_line(columns: Sequence[Column]) -> Text:
    """The columns' titles."""
    return Text(_joined(columns, [put(c.title, c) for c in columns]), style="dim", no_wrap=True)


def _run_lines(row: _Row, columns: Sequence[Column], now: dt.datetime, width: int) -> list[Text]:
    """One run; its `why` below it where the terminal is so narrow that only its beginning would be seen."""
    why = _why(row.view)
    room = _spanned(columns) - 1
    if cell_len(why) <= room or room >= _LEAST_WHY:
        return [run_line(row.view, row.label, columns, now)]
    line = run_line(dataclasses.replace(row.view, why=""), row.label, columns, now)
    below = textwrap.wrap(why, max(width - 4, 20))
    return [line, *(Text(f"    {text}", style="dim", no_wrap=True) for text in below)]


def _why(view: RunView) -> str:
    if view.state is State.STOPPED:  # its place at the rung; how many went on, all its fellows say
        return (view.why or "").partition(",")[0]
    return (view.why or "") if view.state in _WITH_WHY else ""


def _spanned(columns: Sequence[Column]) -> int:
    """The width of all columns that have nothing to say where there is a `why`."""
    return sum(c.width + c.gap for c in columns if c.spanned)


def run_line(view: RunView, label: str, columns: Sequence[Column], now: dt.datetime) -> Text:
    """One run, under the name `label`; its `why` over the columns that have nothing to say."""
    cells = [
        put(_label_in(view, label, c) if c.title == "run" else c.cell(view, now, c.width), c) for c in columns
    ]
    line = Text(no_wrap=True, overflow="crop")
    why, spanned = _why(view), _spanned(columns)
    for column, cell in zip(columns, cells, strict=True):
        if why and column.spanned:
            # One phrase over all the columns that have nothing to say, in place of the first of them.
            line.append(f" {put_width(why, spanned - 1)}" if spanned else "", style="dim")
            spanned = 0
            continue
        line.append(" " * column.gap)
        line.append(cell, style=_style(column, view))
    line.rstrip()
    return line


def notes(snapshot: Snapshot, views: Sequence[RunView]) -> list[Text]:
    """What the table has no room for: SLURM's silence, oddities, unreadable and damaged files."""
    remarks: list[str] = []
    if snapshot.queue.down_since is not None:
        since = snapshot.queue.down_since
        silent = (snapshot.taken - since).total_seconds()
        when = f" since {since.astimezone():%H:%M:%S}, for {format_duration(silent)}" if silent >= 1 else ""
        remarks.append(f"SLURM does not answer{when}: {snapshot.queue.error}")
    for view in views:
        silence = view.why == NO_ANSWER and snapshot.queue.down_since is not None  # said above, once for all
        odd = [view.why] if view.why and view.state not in _WITH_WHY and not silence else []
        unread = [what for what in view.unreadable if what != view.why]
        remarks += [f"{view.name} {view.id[:15]}: {what}" for what in (*odd, *unread, *view.damaged)]
    more = [f"and {len(remarks) - _NOTES} more remarks"] if len(remarks) > _NOTES else []
    return [Text(text, style="yellow") for text in remarks[:_NOTES] + more]


def state_counts(views: Iterable[RunView]) -> Text:
    """`1 stalled, 3 running`, in the states' colours, trouble first."""
    return Text(", ").join(_counts(views))


def _counts(views: Iterable[RunView]) -> list[Text]:
    counts = Counter(view.state for view in views)
    return [Text(f"{counts[state]} {state}", style=STYLES[state]) for state in BY_CARE if counts[state]]


def _wrapped(parts: Sequence[Text], width: int) -> list[Text]:
    """The parts with commas between them, in as many lines of `width` columns as they need, none of them split."""
    lines: list[list[Text]] = [[]]
    for part in parts:
        if lines[-1] and sum(p.cell_len + 2 for p in lines[-1]) + part.cell_len + 1 > width:
            lines.append([])
        lines[-1].append(part)
    joined = [Text(", ").join(line) for line in lines]
    return [Text.assemble(line, ",") for line in joined[:-1]] + joined[-1:]


def _groups(views: Sequence[RunView]) -> list[tuple[str, list[RunView]]]:
    """Runs of one sweep, else of one name, together; the group with the newest run last, points by their values."""
    groups: dict[tuple[str, str], list[RunView]] = {}
    for view in views:
        groups.setdefault((view.name, view.sweep or ""), []).append(view)
    ordered = sorted(groups.items(), key=lambda item: item[1][-1].id)
    return [(name, sorted(members, key=_point_order)) for (name, _), members in ordered]


def _point_order(view: RunView) -> tuple[tuple[bool, float, str], ...]:
    """Numbers by size, all else by its letters; runs without a point stay as they stand."""
    return tuple(
        (False, v, "") if isinstance(v, int | float) else (True, 0.0, str(v)) for v in view.point.values()
    )


def _part(name: str, views: list[RunView], *, fold: bool) -> _Part:
    if len(views) == 1 and not views[0].point:
        return _Part(heading=None, rows=(_Row(label=name, view=views[0]),))
    heading = Text.assemble((name, "bold"), f"  {counted(len(views), 'run')}: ", state_counts(views))
    shown = views
    if fold and len(views) > FOLD:
        best, troubled = _best(views), [view for view in views if view.state.is_trouble]
        shown = best + [view for view in troubled if view not in best][:TROUBLED]
        heading.append(f"; the best {len(best)}" if best else "")
        heading.append(
            f"{' and' if best else ';'} {min(TROUBLED, len(troubled))} in trouble" if troubled else ""
        )
    return _Part(heading=heading, rows=tuple(_Row(label=f"  {_label(view)}", view=view) for view in shown))


def _missing_keys(part: _Part, width: int) -> str:
    """The keys of a sweep of which only the values fit a column of that width."""
    points = [row.view.point for row in part.rows if row.view.point]
    bare = [p for p in points if "=" not in short_point_text(p, width - 2)]
    return ", ".join(key.rpartition(".")[2] for key in bare[0]) if bare else ""


def _best(views: Sequence[RunView]) -> list[RunView]:
    """The lowest validation bounds; before the first validation, the lowest losses."""
    validated = [(v.validation_bound, i) for i, v in enumerate(views) if v.validation_bound is not None]
    trained = [(v.loss, i) for i, v in enumerate(views) if v.loss is not None]
    return [views[i] for _, i in sorted(validated or trained)[:BEST]]


def _label(view: RunView) -> str:
    # The start of an id is short and, in nearly all cases, enough for `sedd status ID`.
    return point_text(view.point) or view.id[:15]


def _label_in(view: RunView, label: str, column: Column) -> str:
    """The label; where it is too long, its point's keys are cut and then its name: what tells runs apart stays."""
    whole = point_text(view.point) or label.rpartition(" ")[2]
    if cell_len(label) <= column.width or not label.endswith(f" {whole}"):
        return label
    before = label.removesuffix(whole)
    rest = short_point_text(view.point, column.width - cell_len(before)) if view.point else whole
    room = column.width - cell_len(rest)
    if before.strip() and cell_len(before) > room:
        before = f"{put_width(before.rstrip(), room - 1)} " if room > 2 else ""
    return before + rest


def _style(column: Column, view: RunView) -> str:
    if column.title == "state":
        return STYLES[view.state]
    if column.title == "risk" and (view.at_risk_s or 0) > 3600:
        return "yellow"
    return "dim" if view.state is State.CANCELLED else ""


def _is_recent(view: RunView, now: dt.datetime) -> bool:
    if not view.state.is_final:
        return True
    return (now - (view.ended or view.submitted or view.made)).total_seconds() <= RECENT_S


def _joined(columns: Sequence[Column], cells: Sequence[str]) -> str:
    return "".join(" " * c.gap + cell for c, cell in zip(columns, cells, strict=True)).rstrip()
