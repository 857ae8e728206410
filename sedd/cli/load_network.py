"""What the commands of a trained network share: its loading, their progress, and what they tell at Ctrl-C."""

import functools
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sedd.cli.console import err, note, tell
from sedd.cli.progress import LOG_EVERY_S
from sedd.errors import SeddError, UsageError

if TYPE_CHECKING:
    from sedd.inference.load_network import Trained

Command = Callable[..., None]


def load(run_or_checkpoint: str) -> "Trained":
    """The network of a checkpoint file, an exported folder, or a run's newest whole checkpoint.

    Raises:
        UsageError: no such run or file. CheckpointError: not a checkpoint, or damaged.
    """
    require_network(run_or_checkpoint)
    from sedd.inference.load_network import find_trained, load_trained
    from sedd.rundir.find import runs_root

    trained = load_trained(find_trained(run_or_checkpoint, runs_root(), notify=note))
    device = next(trained.model.parameters()).device
    tell(f"{trained.run} at step {trained.step}, {trained.precision.name} on {device}")
    return trained


def require_network(run_or_checkpoint: str) -> None:
    """Refuse what names no network, before torch is imported. Raises: UsageError, CheckpointError."""
    from sedd.inference.find_network import find_network
    from sedd.rundir.find import runs_root

    find_network(run_or_checkpoint, runs_root())


def require_fasta(*paths: Path, option: str = "--fasta") -> None:
    """Refuse a run where a FASTA file is asked for. Raises: UsageError."""
    for path in paths:
        if not path.is_file() and _is_run(str(path)):
            raise UsageError(
                f"{option} is {path}, which is a run; a FASTA file is wanted",
                hint="the run is named first, without an option",
            )


def _is_run(text: str) -> bool:
    from sedd.rundir.find import find_runs, runs_root

    try:
        return bool(find_runs(text, runs_root()))
    except SeddError:
        return False


def tells_interrupt(*outputs: str, task: str | None = None) -> Callable[[Command], Command]:
    """A command that, at Ctrl-C, tells in a line how far it was, and which of the files of its options `outputs` are
    written; `task` is the job that would have kept what is finished. SIGTERM, and the SIGHUP of a terminal that is
    closed, end it as tidily, without a word.
    """

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def called(**values: Any) -> None:
            named = [Path(values[name]) for name in outputs if values.get(name) and str(values[name]) != "-"]
            before = [_file_identity(path) for path in named]
            try:
                with _exiting_on_signals():
                    command(**values)
            except KeyboardInterrupt as e:
                after = map(_file_identity, named)
                written = [str(p) for p, old, new in zip(named, before, after, strict=True) if new != old]
                tell(interrupt_text(written, " ".join(getattr(e, "__notes__", ())), task=task))
                raise

        return called

    return decorate


@contextmanager
def _exiting_on_signals() -> Iterator[None]:
    """By SystemExit, at a cancelled job's or a lost terminal's: what is half written goes. Not SIGHUP under nohup."""
    taken = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is not signal.SIG_IGN]
    before = {number: signal.signal(number, lambda number, _: sys.exit(128 + number)) for number in taken}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def interrupt_text(written: Sequence[str], reached: str, *, task: str | None) -> str:
    """`interrupted while scoring, 12 of 60 done: nothing was written. …`"""
    state = f"{' and '.join(written)} {'are' if len(written) > 1 else 'is'} complete" if written else ""
    at = f" while {reached}" if reached else ""
    again = f"the same command starts over{', with --force' if written else ''}"
    kept = f"; a job (task: {task} in a spec) keeps what it has finished" if task else ""
    return f"interrupted{at}: {state or 'nothing was written'}; {again}{kept}"


def _file_identity(path: Path) -> tuple[int, int] | None:
    """What a new file in the place of another one changes."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


@contextmanager
def progress(what: str, total: int, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, in a log a line now and then; call it with (done, total), counted in `unit`s.

    An interrupt hears how far it was.
    """
    reached = f"{what}, 0 of {total:,} {unit} done"
    try:
        with _shown(what, total, unit) as show:

            def step(done: int, of: int) -> None:
                nonlocal reached
                reached = f"{what}, {done:,} of {of:,} {unit} done"
                show(done, of)

            yield step
    except KeyboardInterrupt as e:
        e.add_note(reached)
        raise


@contextmanager
def _shown(what: str, total: int, unit: str) -> Iterator[Callable[[int, int], None]]:
    if not err().is_terminal:
        shown = time.monotonic()

        def show(done: int, of: int) -> None:
            nonlocal shown
            if time.monotonic() - shown >= LOG_EVERY_S:
                shown = time.monotonic()
                tell(f"{what}: {done:,} of {of:,} {unit}")

        yield show
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn(unit), TimeRemainingColumn())
    with Progress(*columns, console=err(), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, of: bar.update(task, completed=done, total=of)
