"""Load the network that a command names by run, checkpoint or export, on the best device."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sedd.cli.console import err, note, tell
from sedd.cli.progress import LOG_EVERY_S

if TYPE_CHECKING:
    from sedd.inference.load_network import Trained


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


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr, in a log a line now and then; call it with (done, total)."""
    if not err().is_terminal:
        shown = time.monotonic()

        def show(done: int, of: int) -> None:
            nonlocal shown
            if time.monotonic() - shown >= LOG_EVERY_S:
                shown = time.monotonic()
                tell(f"{what}: {done} of {of}")

        yield show
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err(), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, of: bar.update(task, completed=done, total=of)
