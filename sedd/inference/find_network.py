"""From what a user types to a trained network's files, before anything heavy is imported."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sedd.data.fasta import looks_like_fasta
from sedd.errors import CheckpointUnavailableError, SeddError, UsageError
from sedd.finetune.adapters_folder import CONFIG as ADAPTERS_CONFIG
from sedd.finetune.adapters_folder import WEIGHTS as ADAPTERS
from sedd.finetune.adapters_folder import is_adapters, read_config
from sedd.finetune.base_network import find_base
from sedd.finetune.checkpoint_facts import read_facts
from sedd.finetune.parent import refuse_incomplete
from sedd.home import expand_home
from sedd.rundir.attempts import is_completed
from sedd.rundir.best import find_trained_run
from sedd.rundir.events import read_events
from sedd.rundir.find import list_runs_of_name, refuse_spec, typed_name
from sedd.rundir.layout import RunDir, is_run, list_checkpoints, read_manifest

CONFIG, WEIGHTS = "config.json", "model.safetensors"
"""The files of an exported network."""


def is_export(path: Path) -> bool:
    """Whether a folder looks like one of ours."""
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def require_new_export(folder: Path, *, force: bool) -> None:
    """Refuse a folder that holds something; with `force` only one that is no export. Raises: UsageError."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not is_export(folder):
        raise UsageError(
            f"cannot write {folder}: it already exists and is not an exported network",
            hint="name a new folder",
        )
    if not force:
        raise UsageError(f"cannot write {folder}: it already exists", hint="--force replaces it")


def find_network(
    text: str, runs: Path, *, notify: Callable[[str], None] = lambda text: None
) -> Path | RunDir:
    """A checkpoint file or an exported folder as named, or a run that has written a checkpoint.

    Of a sweep the best run, which `notify` hears.

    Raises:
        UsageError: no such run or file, a spec, a plan, one file of an export, or an export without one.
        UndecidedError: a sweep whose best run is not known. CheckpointError: the run has no checkpoint yet,
            or its folder cannot be read.
    """
    path = expand_home(text)
    refuse_spec(path)
    if path.is_file():
        _refuse_single_file(path)
        return path
    if is_export(path):
        return path
    if is_adapters(path):
        find_base(path)  # which it is nothing without
        return path
    refuse_incomplete(path)
    if path.suffix == ".pt":
        raise UsageError(f"{path}: no such checkpoint")
    run = find_trained_run(text, runs, notify=notify)
    if not list_checkpoints(run.checkpoints, unsealed=True):
        raise no_checkpoint(run)
    return run


def _refuse_single_file(file: Path) -> None:
    """Raises: UsageError for proteins, and for one file of an export or of adapters, nothing without the others."""
    folder = file.parent
    if looks_like_fasta(file):
        raise UsageError(
            f"{file} is a FASTA file, not a run, a checkpoint or an exported network",
            hint="the network is named first; proteins are an option's value, as --fasta",
        )
    if is_adapters(folder) and file.name in (ADAPTERS_CONFIG, ADAPTERS):
        raise UsageError(f"{file} is one file of a folder of adapters", hint=f"name the folder: {folder}")
    if is_export(folder) and file.name in (CONFIG, WEIGHTS):
        raise UsageError(f"{file} is one file of an exported network", hint=f"name its folder: {folder}")
    if file.suffix == Path(WEIGHTS).suffix:
        raise UsageError(
            f"{file} holds weights alone, which do not say of which network they are",
            hint="name a run, its checkpoint (.pt), or the whole folder of sedd export",
        )


def no_checkpoint(run: RunDir) -> SeddError:
    """The error for a run without a checkpoint that can be used: a UsageError if it never has one."""
    task = read_manifest(run).get("task", "train")
    if task != "train":
        return UsageError(
            f"{run.name}/{run.id} holds no network: its task is {task}", hint="name the training that it used"
        )
    older = find_completed_before(run)
    hint = (
        f"the older run {older.name}/{older.id} is completed" if older else f"sedd status {typed_name(run)}"
    )
    return CheckpointUnavailableError(f"{run.path} has no whole checkpoint yet", hint=hint)


def find_completed_before(run: RunDir) -> RunDir | None:
    """The newest completed training among the older runs of the same name."""
    older = [each for each in list_runs_of_name(run.path.parent) if each.id < run.id]
    trained = [each for each in older if list_checkpoints(each.checkpoints, unsealed=True)]
    return next((each for each in reversed(trained) if is_completed(read_events(each.events))), None)


def run_of(checkpoint: Path) -> RunDir | None:
    """The run whose folder holds a checkpoint, if it does."""
    run = RunDir(checkpoint.absolute().parent.parent)
    return run if run.checkpoints == checkpoint.absolute().parent and is_run(run) else None


def untrained_text(network: Path) -> str | None:
    """What to tell of a checkpoint, an export or adapters of step 0; None of a later step, or an unreadable file."""
    try:
        facts = _facts_of(network)
        if int(facts["step"]) != 0:
            return None
        name, is_tuned = str(facts["run"]), facts.get("parent") is not None
    except (SeddError, OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    run = run_of(network)
    older = find_completed_before(run) if run else None
    instead = f"; the older run {older.name}/{older.id} is completed" if older else ""
    name = f"{run.name}/{run.id}" if run else name
    state = "still the one that its fine-tuning starts from" if is_tuned else "untrained"
    return f"the network of run {name} is at step 0, {state}{instead}"


def _facts_of(network: Path) -> Mapping[str, Any]:
    """What a network's files say of it. Raises: SeddError, OSError, ValueError."""
    if is_adapters(network):
        return read_config(network)
    if network.is_dir():
        found: dict[str, Any] = json.loads((network / CONFIG).read_bytes())
        return found
    return read_facts(network)
