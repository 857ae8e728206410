"""The live table: refreshed in the background, controlled by keys."""

import dataclasses
import os
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from sedd.errors import RunError
from sedd.monitor.decide.inspection import inspect
from sedd.monitor.decide.snapshot import RunView, Snapshot
from sedd.monitor.read.facts import Facts
from sedd.monitor.read.logs import last_lines, telling_log
from sedd.monitor.show.background import ActionRunner, Do, Refresher
from sedd.monitor.show.cells import point_text
from sedd.monitor.show.columns import fit
from sedd.monitor.show.detail import detail_view
from sedd.monitor.show.keyboard import raw_keys, read_keys
from sedd.monitor.show.plan_tree import plan_row
from sedd.monitor.show.screen import (
    Action,
    Mode,
    Screen,
    chosen_run,
    cursor,
    folded_plans,
    press,
    shown_runs,
)
from sedd.monitor.show.table import header_line, notes, run_line, state_counts
from sedd.rundir.layout import RunDir
from sedd.rundir.plan_record import PlanRecord
from sedd.units import counted

_TICK_S = 0.25
_AHEAD = 500
"""Lines of a log that are read beyond those shown: no page is longer."""
_HELP = {
    Mode.TABLE: "↑↓ move  enter open  l log  / filter  s sort  a all  c cancel  r requeue  q quit",
    Mode.FILTER: "type to filter  enter keep  esc clear",
    Mode.DETAIL: "↑↓ scroll  l log  c cancel  r requeue  q back",
    Mode.LOG: "↑↓ scroll  enter details  c cancel  r requeue  q back",
    Mode.CONFIRM: "y yes  any other key no",
}
_LEFT_OUT_FIRST = (
    "↑↓ move",
    "↑↓ scroll",
    "s sort",
    "a all",
    "enter details",
    "/ filter",
    "enter open",
    "l log",
)
"""Keys that a narrow terminal does not name, in this order."""


def watch(
    list_runs: Callable[[], Sequence[RunDir]],
    *,
    console: Console,
    actions: Mapping[Action, Do],
    shows_all: bool = False,
    list_plans: Callable[[], Sequence[PlanRecord]] = lambda: (),
) -> None:
    """Show the runs, and plans as a line each, until the user quits.

    Raises:
        SeddError: runs cannot be listed at all.
    """
    keys, refresher, doer = sys.stdin.fileno(), Refresher(list_runs, list_plans), ActionRunner(actions)
    refresher.start()
    try:
        with raw_keys(keys), Live(console=console, screen=True, auto_refresh=False) as live:
            _loop(Screen(shows_all=shows_all), live, keys, refresher, doer)
    except KeyboardInterrupt:
        return
    finally:
        refresher.stop()
        doer.finish()


def _loop(screen: Screen, live: Live, keys: int, refresher: Refresher, doer: ActionRunner) -> None:
    """Draw what has changed, read keys, until one of them quits."""
    drawn: tuple[object, ...] = ()
    while True:
        facts, snapshot, plans = refresher.latest()
        screen = dataclasses.replace(screen, message=doer.news() or screen.message)
        now = (screen, id(snapshot), live.console.size)
        if drawn != now or screen.mode is Mode.LOG:  # a log grows between two looks at the runs
            frame = render(screen, facts, snapshot, plans, size=live.console.size)
            live.update(frame.content, refresh=True)
            drawn = now
        for key in read_keys(keys, timeout_s=_TICK_S):
            views, page = shown_runs(screen, snapshot, plans), max(1, live.console.height - 6)
            screen, effect = press(screen, key, views, page=page, deepest=frame.deepest)
            if effect is not None and effect.quits:
                return
            target = next((v for v in snapshot.runs if effect and v.id == effect.target), None)
            if effect is not None and effect.action is not None and target is not None:
                screen = dataclasses.replace(screen, message=doer.begin(effect.action, target))


@dataclass(frozen=True, slots=True)
class Frame:
    """What a terminal shows, and by how many lines it can be scrolled."""

    content: Group
    deepest: int = 0


def render(
    screen: Screen,
    facts: Facts,
    snapshot: Snapshot,
    plans: Sequence[PlanRecord] = (),
    *,
    size: tuple[int, int],
) -> Frame:
    """The whole terminal: `size` is (columns, lines)."""
    width, height = size
    views = shown_runs(screen, snapshot, plans)
    chosen = chosen_run(screen, views, snapshot)
    body, deepest = max(1, height - 3), 0
    mode = screen.asked_in if screen.mode is Mode.CONFIRM else screen.mode
    if mode in (Mode.DETAIL, Mode.LOG) and chosen is None:
        lines = [Text("The folder of this run has vanished.", style="yellow")]
    elif mode is Mode.DETAIL and chosen is not None:
        lines = _detail(chosen, facts, width)
        deepest = max(0, len(lines) - body)
        lines = lines[min(screen.scroll, deepest) :]
    elif mode is Mode.LOG and chosen is not None:
        lines, deepest = _log(chosen, body, screen.scroll)
    else:
        rows = _plan_rows(folded_plans(screen, snapshot, plans), snapshot, at_most=max(1, body // 2))
        lines = rows + (_table(screen, views, snapshot, width, body - len(rows)) if views or not rows else [])
    lines = lines[:body] + [Text("")] * (body - len(lines))
    parts = [_title(screen, views, snapshot), *lines, *_footer(screen, chosen, width)]
    for line in parts:
        line.no_wrap = True
        line.truncate(width, overflow="crop")
    return Frame(Group(*parts), deepest)


def _title(screen: Screen, views: Sequence[RunView], snapshot: Snapshot) -> Text:
    line = Text.assemble((f"{snapshot.taken.astimezone():%H:%M:%S}  ", "dim"), state_counts(views))
    line.append(f"  by {screen.order}", style="dim")
    if screen.filter or screen.mode is Mode.FILTER:
        line.append(f"  /{screen.filter}" + ("▏" if screen.mode is Mode.FILTER else ""), style="cyan")
    return line


def _plan_rows(plans: Sequence[PlanRecord], snapshot: Snapshot, *, at_most: int) -> list[Text]:
    """A line for each plan, newest first."""
    rows = [plan_row(plan, snapshot) for plan in reversed(plans)]
    if len(rows) <= at_most:
        return rows
    more = len(rows) - at_most + 1
    return [*rows[: at_most - 1], Text(f"and {counted(more, 'plan')} more: sedd status", style="dim")]


def _table(
    screen: Screen, views: Sequence[RunView], snapshot: Snapshot, width: int, height: int
) -> list[Text]:
    if not views:
        return [Text("No run to show: / changes the filter, a shows all.", style="dim")]
    room = max(1, height - 1 - min(3, len(notes(snapshot, views))))
    position = cursor(screen, views)
    first = max(0, min(position - room // 2, len(views) - room))
    visible = views[first : first + room]
    labels = _labels(visible, snapshot)
    columns = fit(width, visible, labels, now=snapshot.taken)
    lines = [header_line(columns)]
    for k, (view, label) in enumerate(zip(visible, labels, strict=True)):
        line = run_line(view, label, columns, snapshot.taken)
        if first + k == position:
            line.pad_right(max(0, width - line.cell_len))
            line.stylize("reverse")
        lines.append(line)
    return lines + notes(snapshot, views)[:3]


def _labels(views: Sequence[RunView], snapshot: Snapshot) -> list[str]:
    """The name, and what tells runs of one name apart."""
    counts = Counter(view.name for view in snapshot.runs)
    return [v.name if counts[v.name] == 1 else f"{v.name} {point_text(v.point) or v.id[4:15]}" for v in views]


def _detail(view: RunView, facts: Facts, width: int) -> list[Text]:
    found = next((f for f in facts.runs if f.run.path == view.run.path), None)
    if found is None:
        return [Text(f"{view.run.path} has vanished", style="yellow")]
    try:
        return list(detail_view(inspect(found, now=facts.taken), width=width).renderables)  # type: ignore[arg-type] # all Text
    except (OSError, RunError) as e:
        return [Text(f"cannot read the run: {e}", style="yellow")]


def _log(view: RunView, height: int, scroll: int) -> tuple[list[Text], int]:
    """The part of the newest log that is `scroll` lines above its end, and how far up one may go from here."""
    log = telling_log(view.run)
    if log is None:
        return [Text(f"no log yet in {view.run.logs}", style="dim")], 0
    room = max(1, height - 1)
    try:
        lines = last_lines(log, room + scroll + _AHEAD).splitlines()
    except OSError as e:
        return [Text(f"cannot read {log}: {e.strerror}", style="yellow")], 0
    deepest = max(0, len(lines) - room)
    end = len(lines) - min(scroll, deepest)
    title = Text(f"{view.name} {view.id}  {log.name}", style="dim")
    return [title, *(Text.from_ansi(line) for line in lines[max(0, end - room) : end])], deepest


def _footer(screen: Screen, chosen: RunView | None, width: int) -> list[Text]:
    keys = Text(_keys(screen.mode, width), style="dim")
    if screen.mode is Mode.CONFIRM and chosen is not None:
        question = Text(f"{screen.action} {chosen.name} {chosen.id}?  ", style="bold yellow")
        return [question, keys]
    return [Text(screen.message, style="yellow"), keys]


def _keys(mode: Mode, width: int) -> str:
    """What the keys do, as far as there is room for it: how to end something, or to leave, comes last and stays."""
    named = _HELP[mode].split("  ")
    for each in _LEFT_OUT_FIRST:
        if len("  ".join(named)) > width and each in named:
            named.remove(each)
    return "  ".join(named)


def is_possible(console: Console) -> bool:
    """Whether there is a terminal to watch on."""
    return console.is_terminal and os.isatty(sys.stdin.fileno())
