"""From what a user types to a trained network's files, before anything heavy is imported."""

from pathlib import Path

from sedd.errors import CheckpointError, UsageError
from sedd.finetune.adapters_folder import is_adapters
from sedd.finetune.base_network import find_base
from sedd.home import expand_home
from sedd.rundir.find import find_run
from sedd.rundir.layout import RunDir

CONFIG, WEIGHTS = "config.json", "model.safetensors"
"""The files of an exported network."""


def is_export(path: Path) -> bool:
    """Whether a folder looks like one of ours."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def find_network(text: str, runs: Path) -> Path | RunDir:
    """A checkpoint file or an exported folder as named, or a run that has written a checkpoint.

    Raises:
        UsageError: no such run or file. CheckpointError: the run has no checkpoint yet.
    """
    path = expand_home(text)
    if path.is_file() or is_export(path):
        return path
    if is_adapters(path):
        find_base(path)  # which it is nothing without
        return path
    if path.suffix == ".pt":
        raise UsageError(f"{path}: no such checkpoint")
    run = find_run(text, runs)
    if not any(run.checkpoints.glob("step-*.pt")):
        raise no_checkpoint(run)
    return run


def no_checkpoint(run: RunDir) -> CheckpointError:
    """The error for a run without a checkpoint that can be used."""
    return CheckpointError(f"{run.path} has no whole checkpoint yet", hint=f"sedd status {run.id}")
