"""The table of runs, live: refreshed in the background, steered by keys."""

import dataclasses
import datetime as dt
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from sedd.errors import RunError, SeddError
from sedd.monitor.cells import point_text
from sedd.monitor.columns import fit
from sedd.monitor.detail import detail_view
from sedd.monitor.facts import Facts
from sedd.monitor.gather import Gatherer
from sedd.monitor.inspection import inspect
from sedd.monitor.keyboard import raw_keys, read_keys
from sedd.monitor.logs import last_lines, newest_log
from sedd.monitor.queue import BackgroundQueue
from sedd.monitor.screen import Action, Effect, Mode, Screen, cursor, press, shown_runs
from sedd.monitor.snapshot import RunView, Snapshot, Views
from sedd.monitor.table import header_line, notes, run_line, state_counts
from sedd.rundir.layout import RunDir

REFRESH_S = 2.0
_TICK_S = 0.25
_HELP = {
    Mode.TABLE: "↑↓ move  enter open  l log  / filter  s sort  a all  c cancel  r requeue  q quit",
    Mode.FILTER: "type to filter  enter keep  esc clear",
    Mode.DETAIL: "↑↓ scroll  l log  c cancel  r requeue  q back",
    Mode.LOG: "↑↓ scroll back  enter details  c cancel  r requeue  q back",
    Mode.CONFIRM: "y yes  any other key no",
}

Do = Callable[[RunDir], str]
"""Cancels or requeues a run; says what came of it."""


def watch(
    list_runs: Callable[[], Sequence[RunDir]],
    *,
    console: Console,
    actions: Mapping[Action, Do],
    shows_all: bool = False,
) -> None:
    """Show the runs until the user quits. Raises: SeddError when runs cannot be listed at all."""
    screen, keys = Screen(shows_all=shows_all), sys.stdin.fileno()
    refresher = _Refresher(list_runs)
    refresher.start()
    try:
        with raw_keys(keys), Live(console=console, screen=True, auto_refresh=False) as live:
            while True:
                facts, snapshot = refresher.latest()
                live.update(render(screen, facts, snapshot, size=console.size), refresh=True)
                for key in read_keys(keys, timeout_s=_TICK_S):
                    views = shown_runs(screen, snapshot)
                    screen, effect = press(screen, key, views, page=max(1, console.height - 6))
                    if effect is not None and effect.quits:
                        return
                    if effect is not None:
                        screen = _act(screen, effect, views, actions)
    except KeyboardInterrupt:
        return
    finally:
        refresher.stop()


def render(screen: Screen, facts: Facts, snapshot: Snapshot, *, size: tuple[int, int]) -> Group:
    """The whole terminal: `size` is (columns, lines)."""
    width, height = size
    views = shown_runs(screen, snapshot)
    chosen = views[cursor(screen, views)] if views else None
    body = max(1, height - 3)
    if screen.mode is Mode.DETAIL and chosen is not None:
        lines = _detail(chosen, facts, width)[screen.scroll :]
    elif screen.mode is Mode.LOG and chosen is not None:
        lines = _log(chosen, body, screen.scroll)
    else:
        lines = _table(screen, views, snapshot, width, body)
    lines = lines[:body] + [Text("")] * (body - len(lines))
    parts = [_title(screen, views, snapshot), *lines, *_footer(screen, chosen)]
    for line in parts:
        line.no_wrap = True
        line.truncate(width, overflow="crop")
    return Group(*parts)


def _title(screen: Screen, views: Sequence[RunView], snapshot: Snapshot) -> Text:
    line = Text.assemble((f"{snapshot.taken.astimezone():%H:%M:%S}  ", "dim"), state_counts(views))
    line.append(f"  by {screen.order}", style="dim")
    if screen.filter or screen.mode is Mode.FILTER:
        line.append(f"  /{screen.filter}" + ("▏" if screen.mode is Mode.FILTER else ""), style="cyan")
    return line


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
    return [v.name if counts[v.name] == 1 else f"{v.name} {point_text(v.point) or v.id[:15]}" for v in views]


def _detail(view: RunView, facts: Facts, width: int) -> list[Text]:
    found = next((f for f in facts.runs if f.run.path == view.run.path), None)
    if found is None:
        return [Text(f"{view.run.path} has vanished", style="yellow")]
    try:
        return list(detail_view(inspect(found, now=facts.taken), width=width).renderables)  # type: ignore[arg-type] # all Text
    except (OSError, RunError) as e:
        return [Text(f"cannot read the run: {e}", style="yellow")]


def _log(view: RunView, height: int, scroll: int) -> list[Text]:
    log = newest_log(view.run)
    if log is None:
        return [Text(f"no log yet in {view.run.logs}", style="dim")]
    try:
        lines = last_lines(log, height - 1 + scroll).splitlines()
    except OSError as e:
        return [Text(f"cannot read {log}: {e.strerror}", style="yellow")]
    return [Text(str(log), style="dim"), *(Text.from_ansi(line) for line in lines[: height - 1])]


def _footer(screen: Screen, chosen: RunView | None) -> list[Text]:
    if screen.mode is Mode.CONFIRM and chosen is not None:
        question = Text(f"{screen.action} {chosen.name} {chosen.id}?  ", style="bold yellow")
        return [question, Text(_HELP[screen.mode], style="dim")]
    return [Text(screen.message, style="yellow"), Text(_HELP[screen.mode], style="dim")]


def _act(screen: Screen, effect: Effect, views: Sequence[RunView], actions: Mapping[Action, Do]) -> Screen:
    if effect.action is None or not views:
        return screen
    try:
        message = actions[effect.action](views[cursor(screen, views)].run)
    except SeddError as e:
        message = f"{effect.action}: {e.message}"
    return dataclasses.replace(screen, message=message)


class _Refresher:
    """Reads the runs in the background, so that a slow disk or SLURM never holds up a key."""

    def __init__(self, list_runs: Callable[[], Sequence[RunDir]]) -> None:
        self._list, self._views = list_runs, Views()
        self._gatherer = Gatherer(queue=BackgroundQueue())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._latest = self._read()

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def latest(self) -> tuple[Facts, Snapshot]:
        return self._latest

    def _read(self) -> tuple[Facts, Snapshot]:
        facts = self._gatherer.gather(self._list(), now=dt.datetime.now(dt.UTC))
        return facts, self._views.snapshot(facts)

    def _run(self) -> None:
        while not self._stop.wait(REFRESH_S):
            begun = time.monotonic()
            with suppress(OSError, SeddError):  # a file system that is away for a moment: what is known stays
                self._latest = self._read()
            self._stop.wait(min(30.0, 2 * (time.monotonic() - begun)))  # a slow one is asked less often


def is_possible(console: Console) -> bool:
    """Whether there is a terminal to watch on."""
    return console.is_terminal and os.isatty(sys.stdin.fileno())
