"""The network that a fine-tuning starts from: found, described and kept for its run. Torch-free."""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sedd.errors import CheckpointError, SeddError, UsageError, cannot_read
from sedd.finetune.adapters_folder import CONFIG as ADAPTERS_CONFIG
from sedd.finetune.adapters_folder import WEIGHTS as ADAPTERS
from sedd.finetune.adapters_folder import is_adapters, read_config
from sedd.finetune.checkpoint_facts import read_facts
from sedd.rundir.atomic import write_text
from sedd.rundir.best import find_trained_run
from sedd.rundir.find import list_runs_of_name, refuse_spec
from sedd.rundir.layout import RunDir, is_run, list_checkpoints
from sedd.rundir.presence import is_gone
from sedd.spec.experiment import Experiment
from sedd.spec.finetune import InitSpec
from sedd.spec.load import dump_resolved
from sedd.spec.task import TaskSpec
from sedd.yaml import Document, parse_document, validate

CONFIG, WEIGHTS = "config.json", "model.safetensors"
"""The files of an exported network."""
PART = ".shard"
"""Ends the names of what ranks have written of a checkpoint: they begin as its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """A trained network as its files describe it."""

    path: Path
    """A checkpoint, or an exported folder."""
    run: str
    """`name/id` of the run that trained it."""
    step: int
    sha256: str
    """Of the checkpoint, or of an export's weights: names them for good."""
    data_hash: str
    """Names its training data."""
    tokens: int
    """Size of its alphabet."""
    experiment: Experiment
    conditions: Any = None
    """What its labels mean, as its checkpoint has it; None of a network that is told none."""
    weights: str | None = None
    """Of an export: `ema` or `raw`, whatever is asked for."""
    lineage: Mapping[str, Any] | None = None
    """What it was fine-tuned from itself."""

    @property
    def is_export(self) -> bool:
        """Whether it holds weights alone, and not what else a training goes on from."""
        return self.path.is_dir()


def find_parent(network: Path, *, notify: Callable[[str], None] = lambda text: None) -> Path | None:
    """The checkpoint or export that a spec's `network` names; None for a run that has no checkpoint yet.

    Of a sweep that of its best run, which `notify` hears.

    Raises:
        UsageError: no such run or file, a spec, a plan, adapters alone, or an export that has lost a file.
        UndecidedError: a sweep whose best run is not known. CheckpointError: a folder of checkpoints cannot be read.
    """
    _refuse_adapters(network)
    refuse_spec(network)
    if network.is_file() or _is_export(network):
        return network
    refuse_incomplete(network)
    run = find_trained_run(str(network), network, notify=notify)
    return next(iter(list_checkpoints(run.checkpoints)), None)


def refuse_incomplete(folder: Path) -> None:
    """Refuse a folder of an export, or of adapters, that has lost one of its two files. Raises: UsageError."""
    for names, what, option in (
        ((CONFIG, WEIGHTS), "an exported network", ""),
        ((ADAPTERS_CONFIG, ADAPTERS), "adapters", "--adapters "),
    ):
        there = [name for name in names if (folder / name).is_file()]
        if len(there) == 1:
            lost = next(name for name in names if name not in there)
            raise UsageError(
                f"{folder} lacks {lost}, which {what} {'need' if what == 'adapters' else 'needs'} beside {there[0]}",
                hint=f"copy the whole folder again, or write another: sedd export RUN {option}-o FOLDER",
            )


def same_name_hint(network: Path, runs: Path, key: str) -> str | None:
    """How to write a run's name in a spec, where names are paths; None where no run in `runs` has that name."""
    for below in (Path(network.name), Path(network.parent.name, network.name)):
        folder = runs / below
        if is_gone(network) and (is_run(RunDir(folder)) or list_runs_of_name(folder)):
            return f"{below} is a run in {runs}; in a spec it is named by its path: `{key}: {folder}`"
    return None


def require_whole(experiments: Iterable[TaskSpec]) -> None:
    """Refuse adapters alone as the start of a training, before anything is made of it. Raises: UsageError."""
    for experiment in experiments:
        if isinstance(experiment, Experiment) and experiment.training.init is not None:
            _refuse_adapters(experiment.training.init.network)


def _refuse_adapters(network: Path) -> None:
    if is_adapters(network):
        run = read_config(network).get("run")
        raise UsageError(
            f"training.init names {network}, which holds adapters alone: a training starts from a whole network",
            hint=f"name run {run}, or what `sedd export {run} -o FOLDER` writes: the adapters are merged there",
        )


def read_parent(path: Path) -> Parent:
    """What a checkpoint or an export says of its network.

    Raises:
        CheckpointError: it is neither, is damaged, or cannot be read.
    """
    try:
        return _from_export(path) if path.is_dir() else _from_checkpoint(path)
    except OSError as e:
        raise cannot_read(path, e) from e
    except (KeyError, TypeError, ValueError, AttributeError) as e:
        raise CheckpointError(f"{path} does not describe its network: {type(e).__name__}: {e}") from e


def lineage_of(parent: Parent, init: InitSpec) -> dict[str, Any]:
    """Which network a run starts from, for people and machines; no path is in it."""
    return {
        "run": parent.run,
        "step": parent.step,
        "sha256": parent.sha256,
        "weights": parent.weights or init.weights,
        "data_hash": parent.data_hash,
        "parent": parent.lineage,
    }


def description_of(parent: Parent, init: InitSpec) -> dict[str, Any]:
    """What a fine-tuned checkpoint keeps of its parent, which may be gone by then: its lineage and its spec."""
    return {**lineage_of(parent, init), "spec": dump_resolved(parent.experiment)}


def lineage_in(saved: Mapping[str, Any]) -> dict[str, Any] | None:
    """The lineage that a checkpoint holds; None of a network that was trained from the start."""
    parent = saved.get("parent")
    return {key: value for key, value in parent.items() if key != "spec"} if parent else None


def write_lineage(run: RunDir, description: Mapping[str, Any]) -> None:
    """Write lineage.json: the network that the run did start from. Raises: OSError."""
    write_text(run.lineage, json.dumps(lineage_in({"parent": description}), indent=1) + "\n")


def adopt(run: RunDir, experiment: TaskSpec) -> dict[str, Any] | None:
    """Keep the network that a new run starts from in the run's folder; returns its lineage, for the manifest.

    None where there is none yet, or it cannot be read: the training looks again, and says so.
    """
    init = experiment.training.init if isinstance(experiment, Experiment) else None
    if init is None:
        return None
    try:
        found = find_parent(init.network)
        if found is None:
            return None
        parent = read_parent(found)
        keep(found, run.initial)
    except (SeddError, OSError):
        return None
    return lineage_of(parent, init)


def keep(parent: Path, folder: Path) -> None:
    """Link a network's files into a folder, or copy them to another disk; they are never changed where they lie.

    A folder that exists is whole, and stays as it is: of two that keep at once the first counts. Raises: OSError, also
    where a file is gone by now.
    """
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir()
    try:
        for path in _files_of(parent):
            _link(path, aside / path.name)
        os.rename(aside, folder)
    except OSError as e:
        if e.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _files_of(parent: Path) -> list[Path]:
    if parent.is_dir():
        return [parent / CONFIG, parent / WEIGHTS]
    seal = parent.with_suffix(".json")
    seals = [seal] if seal.exists() else []  # one that was copied by hand may have none
    return [parent, *seals, *parent.parent.glob(f"{parent.stem}.*{PART}")]


def kept_in(folder: Path) -> Path | None:
    """The network that `keep` put there, if it did."""
    if _is_export(folder):
        return folder
    return next((path for path in folder.glob("*") if path.suffix not in (".json", PART)), None)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source.resolve(), target)
    except OSError:  # another disk, or one without hard links
        shutil.copyfile(source, target)


def _is_export(path: Path) -> bool:
    return (path / CONFIG).is_file() and (path / WEIGHTS).is_file()


def _from_checkpoint(path: Path) -> Parent:
    facts = read_facts(path)
    return Parent(
        path=path,
        run=str(facts["run"]),
        step=int(facts["step"]),
        sha256=_sealed_hash(path) or sha256_of(path),
        data_hash=str(facts["data_hash"]),
        tokens=len(facts["composition"]),
        experiment=validate(Experiment, parse_document(facts["spec"], name=str(path))),
        conditions=facts.get("conditions"),
        lineage=lineage_in(facts),
    )


def refuse_transformers_export(config: Mapping[str, Any], folder: Path) -> None:
    """Refuse a folder whose config.json was written for transformers. Raises: CheckpointError."""
    if config.get("format") is None and config.get("model_type") == "sedd":
        raise CheckpointError(
            f"{folder} was exported with --format hf, for transformers; sedd reads plain exports",
            hint="sedd export RUN -o FOLDER",
        )


def _from_export(path: Path) -> Parent:
    config = json.loads((path / CONFIG).read_bytes())
    refuse_transformers_export(config, path)
    spec = Document(name=str(path / CONFIG), data=config["spec"], lines={})
    return Parent(
        path=path,
        run=str(config["run"]),
        step=int(config["step"]),
        sha256=str(config["sha256"]),
        data_hash=str(config["data_hash"]),
        tokens=len(config["tokens"]),
        experiment=validate(Experiment, spec),
        conditions=config.get("conditions"),
        weights=str(config["weights"]),
        lineage=config.get("parent"),
    )


def _sealed_hash(path: Path) -> str | None:
    """The checksum in the seal beside a checkpoint, without reading the checkpoint itself."""
    try:
        return str(json.loads(path.with_suffix(".json").read_bytes())["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def sha256_of(path: Path) -> str:
    """Of a file's content. Raises: OSError."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
