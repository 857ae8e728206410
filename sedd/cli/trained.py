"""What `evaluate` and `sample` share: from RUN or CKPT to a network on the best device."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from sedd.cli.console import err
from sedd.errors import UsageError
from sedd.rundir.atomic import write_text

if TYPE_CHECKING:
    from sedd.training.trained import Trained


def load(run_or_checkpoint: str) -> "Trained":
    """The network of a checkpoint file, or of a run's newest whole checkpoint.

    Raises:
        UsageError: no such run or file. CheckpointError: not a checkpoint, or damaged.
    """
    import torch

    from sedd.rundir.find import find_run, runs_root
    from sedd.training.distributed import Ranks
    from sedd.training.precision import PRECISIONS, capability_of, choose_precision
    from sedd.training.trained import find_checkpoint, load_trained

    device = Ranks().device()
    capability = capability_of(device)
    path = Path(run_or_checkpoint).expanduser()
    if path.suffix == ".pt" and not path.is_file():
        raise UsageError(f"{path}: no such checkpoint")
    if not path.is_file():
        path = find_checkpoint(find_run(run_or_checkpoint, runs_root()))
    # What was trained in fp16 or bf16 is read on any machine: on a CPU in fp32.
    trained = load_trained(
        path,
        device,
        lambda asked: PRECISIONS["fp32"] if capability is None else choose_precision(asked, capability),
    )
    err().print(f"{trained.run} at step {trained.step}, {trained.precision.name} on {device}", markup=False)
    torch.set_grad_enabled(False)
    return trained


def require_place(path: Path | None, option: str) -> None:
    """Refuse an output that could not be written, before the work that would be lost. Raises: UsageError."""
    if path is None:
        return
    if path.is_dir():
        raise UsageError(f"{option} is {path}, a folder", hint="name a file in it")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"{option} is {path}: there is no folder {path.absolute().parent}")


def write_output(path: Path, text: str) -> None:
    """Write a file whole or not at all; a pipe or a device, such as /dev/stdout, is written to as it is."""
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
    else:
        write_text(path, text)


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int, int], None]]:
    """A bar on stderr; call it with (done, total)."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=err(), transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda done, of: bar.update(task, completed=done, total=of)
