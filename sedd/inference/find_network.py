"""From what a user types to a trained network's files, before anything heavy is imported."""

from pathlib import Path

from sedd.errors import CheckpointError, UsageError
from sedd.finetune.adapters_folder import is_adapters
from sedd.finetune.base_network import find_base
from sedd.home import expand_home
from sedd.rundir.attempts import is_completed
from sedd.rundir.events import read_events
from sedd.rundir.find import find_run, list_runs_of_name
from sedd.rundir.layout import RunDir, read_manifest

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
    older = find_completed_before(run)
    hint = f"the older run {older.name}/{older.id} is completed" if older else f"sedd status {run.id}"
    return CheckpointError(f"{run.path} has no whole checkpoint yet", hint=hint)


def find_completed_before(run: RunDir) -> RunDir | None:
    """The newest completed training among the older runs of the same name."""
    older = [each for each in list_runs_of_name(run.path.parent) if each.id < run.id]
    trained = [each for each in older if any(each.checkpoints.glob("step-*.pt"))]
    return next((each for each in reversed(trained) if is_completed(read_events(each.events))), None)


def untrained_text(run: RunDir) -> str:
    """What to tell of a run whose newest checkpoint is that of step 0. Raises: RunError of a damaged manifest."""
    older = find_completed_before(run)
    instead = f"; the older run {older.name}/{older.id} is completed" if older else ""
    state = (
        "still the one that its fine-tuning starts from" if read_manifest(run).get("parent") else "untrained"
    )
    return f"the network of run {run.name}/{run.id} is at step 0, {state}{instead}"
