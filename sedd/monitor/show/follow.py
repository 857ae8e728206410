"""Show the progress of runs until all have ended: live on a terminal, as lines in a log."""

import datetime as dt
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.live import Live
from rich.text import Text

from sedd.monitor.decide.poll import poll
from sedd.monitor.decide.snapshot import RunView, Snapshot
from sedd.monitor.decide.state import State
from sedd.monitor.read.gather import Gatherer
from sedd.monitor.read.queue import BackgroundQueue
from sedd.monitor.read.tail import EventTail
from sedd.monitor.show.cells import STYLES, loss_cell
from sedd.monitor.show.sentences import outlook, rate, sentence
from sedd.monitor.show.table import status_table
from sedd.rundir.events import Event
from sedd.rundir.heartbeat import read_heartbeat
from sedd.rundir.layout import RunDir

POLL_S = 0.5
_PAST = 5
"""Events from before the following began that are printed."""
_QUIET = ("checkpoint", "ready")
_ENDS = ("completed", "gave_up", "cancelled")
"""Events that tell the end of a run."""
_EVENT_STYLES = {
    "requeued": STYLES[State.REQUEUED],
    "gave_up": STYLES[State.GAVE_UP],
    "failed": STYLES[State.FAILED],
    "completed": STYLES[State.COMPLETED],
    "stop_requested": "yellow",
}


def follow(
    runs: Sequence[RunDir],
    *,
    console: Console,
    gatherer: Gatherer | None = None,
    poll_s: float = POLL_S,
    meanwhile: Callable[[Snapshot], None] = lambda _: None,
) -> tuple[RunView, ...]:
    """Show progress on `console` until every run has ended; their final views, in the order of `runs`.

    `meanwhile` is called with every snapshot.

    Raises:
        KeyboardInterrupt: the user stopped looking; the runs continue.
        RunError: a run folder vanished.
    """
    gatherer = gatherer or Gatherer(queue=BackgroundQueue())
    snapshots = poll(
        runs,
        every_s=poll_s,
        gatherer=gatherer,
        notify=lambda text: console.print(text, style="yellow", markup=False),
    )
    printer = _EventPrinter(runs, console)
    try:
        show = _live if console.is_terminal else _plain
        with show(console, printer.ended) as update:
            for snapshot in snapshots:
                printer.print_new()
                update(snapshot)
                meanwhile(snapshot)
        return snapshot.runs
    except KeyboardInterrupt:
        console.print("No longer following; the runs continue. sedd status shows them.", style="dim")
        raise


def wait(
    runs: Sequence[RunDir],
    *,
    notify: Callable[[str], None],
    poll_s: float = 2.0,
    gatherer: Gatherer | None = None,
    meanwhile: Callable[[Snapshot], None] = lambda _: None,
) -> tuple[RunView, ...]:
    """The final views of `runs`, once every one has ended; `notify` hears of a SLURM that does not answer.

    `meanwhile` is called with every snapshot.

    Raises:
        RunError: a run folder vanished.
    """
    for snapshot in poll(runs, every_s=poll_s, gatherer=gatherer or Gatherer(), notify=notify):
        meanwhile(snapshot)
        views = snapshot.runs
    return views


class _EventPrinter:
    """Prints each new event once."""

    def __init__(self, runs: Sequence[RunDir], console: Console) -> None:
        self._tails = [(run, EventTail(run.events)) for run in runs]
        self._console = console
        self._many = len(runs) > 1
        self.ended = set[str]()
        """Ids of the runs whose end is printed."""
        self._first = True

    def print_new(self) -> None:
        """Print what happened since the last time, over all runs in order of time."""
        news = [(e, run) for run, tail in self._tails for e in tail.read() if e.event not in _QUIET]
        news.sort(key=lambda pair: pair[0].t)
        for event, run in news[-_PAST:] if self._first else news:
            self._console.print(self._line(event, run), soft_wrap=True)
            (self.ended.add if event.event in _ENDS else self.ended.discard)(run.id)
        self._first = False

    def _line(self, event: Event, run: RunDir) -> Text:
        line = Text(f"{event.t.astimezone():%H:%M:%S}  ", style="dim")
        if self._many:
            line.append(f"{run.name} {run.id}  ", style="bold not dim")
        return line.append(
            sentence(event, unit=_unit(run)), style=f"not dim {_EVENT_STYLES.get(event.event, '')}".strip()
        )


def _unit(run: RunDir) -> str:
    """What the run's task counts, as its newest heartbeat says."""
    beat = read_heartbeat(run.heartbeat)
    return beat.unit if beat else "steps"


@contextmanager
def _live(console: Console, ended: Collection[str]) -> Iterator[Callable[[Snapshot], None]]:
    """A table that stays at the bottom of the terminal."""
    with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as live:
        yield lambda s: live.update(status_table(s, s.runs, width=console.width), refresh=True)


@contextmanager
def _plain(console: Console, ended: Collection[str]) -> Iterator[Callable[[Snapshot], None]]:
    """A line a run now and then: often at the beginning, less often later; of the `ended` only the last numbers."""
    begun = time.monotonic()
    due = begun
    printed: dict[str, tuple[int, State]] = {}

    def update(snapshot: Snapshot) -> None:
        nonlocal due
        is_over = all(view.state.is_final for view in snapshot.runs)
        if time.monotonic() < due and not is_over:
            return
        due = time.monotonic() + pace_s(time.monotonic() - begun)
        for view in snapshot.runs:
            if printed.get(view.id) != (view.step, view.state):
                printed[view.id] = (view.step, view.state)
                name = f"{view.name} {view.id}  " if len(snapshot.runs) > 1 else ""
                line = result_line if view.state.is_final and view.id in ended else progress_line
                if text := line(view, snapshot.taken, name=name):
                    console.print(text, soft_wrap=True)

    yield update


def pace_s(elapsed_s: float) -> float:
    """Seconds to the next plain progress line, `elapsed_s` after the first."""
    return min(max(5.0, elapsed_s / 20), 300.0)


def progress_line(view: RunView, now: dt.datetime, *, name: str = "") -> str:
    """`12:03:04  running  step 1200/4000  loss 2.612  perplexity 12.31  9876 residues/s  3m 2s left`."""
    parts = [
        str(view.state) + (f" ({view.why})" if view.why else ""),
        _progress(view),
        *_losses(view),
        rate(view.residues_per_s) if view.is_live else "",
        outlook(view.eta_s) if view.is_live else "",
    ]
    return f"{now.astimezone():%H:%M:%S}  {name}" + "  ".join(part for part in parts if part)


def result_line(view: RunView, now: dt.datetime, *, name: str = "") -> str:
    """`12:03:04  loss 2.612  validation perplexity 12.31`, below the event of its end; empty without such numbers."""
    numbers = "  ".join(_losses(view))
    return f"{now.astimezone():%H:%M:%S}  {name}{numbers}" if numbers else ""


def _losses(view: RunView) -> list[str]:
    perplexity = view.validation_perplexity
    parts = [f"loss {loss_cell(view.loss)}"] if view.loss is not None else []
    return parts + ([f"validation perplexity {loss_cell(perplexity)}"] if perplexity is not None else [])


def _progress(view: RunView) -> str:
    if view.steps is None:  # a build that has not begun
        return ""
    progress = f"{view.step}/{view.steps}"
    return f"step {progress}" if view.unit == "steps" else f"{progress} {view.unit}"
