"""The names of all files in a run folder, the only link between login node and compute node."""

import datetime as dt
import json
import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sedd.errors import RunError, cannot_read
from sedd.rundir.atomic import write_first, write_text
from sedd.rundir.shared_folder import make_shared

_CHECKPOINT = re.compile(r"step-(\d{8,})\.pt")
_SEAL = re.compile(r"step-(\d{8,})\.json")
ELSEWHERE = "set SEDD_RUNS to a folder with space that you may write"
"""The hint where no run folder can be made."""


def _within(name: str) -> Path:
    """A file or folder of a run folder, by its name: a property, whose type is what it gives."""
    return cast(Path, property(lambda run: run.path / name))


@dataclass(frozen=True, slots=True)
class RunDir:
    """A run folder, `runs/<name>/<id>`; every path in it is spelt here."""

    path: Path

    spec = _within("spec.yaml")
    """The resolved spec, complete with defaults."""
    manifest = _within("manifest.json")
    """What the run was made from; written last: a folder without it was never submitted."""
    code = _within("code")
    """Folder that holds the frozen package: `code/sedd`."""
    events = _within("events.jsonl")
    heartbeat = _within("heartbeat.json")
    metrics = _within("metrics.jsonl")
    validations = _within("validations.jsonl")
    """The bound of each validation by blocks of the fixed set."""
    job_ends = _within("job_ends.jsonl")
    """When the batch script of each attempt's job came to its last line."""
    energy = _within("energy")
    """What each rank's GPU has taken: a file a rank."""
    checkpoints = _within("checkpoints")
    initial = _within("initial")
    """Of a fine-tuning: links to the network that it starts from, until it has a checkpoint of its own."""
    lineage = _within("lineage.json")
    """Of a fine-tuning: the network that it started from; manifest.json has it as of the submission."""
    logs = _within("logs")
    submitit = _within("submitit")
    wandb = _within("wandb")
    tensorboard = _within("tensorboard")
    evaluation = _within("evaluation.json")
    """Of `task: evaluate`: what was found, in a few numbers."""
    samples = _within("samples")
    parts = _within("parts")
    """Of `task: score` and `task: embed`: what is finished, so that a stopped attempt is continued."""

    @property
    def name(self) -> str:
        return self.path.parent.name

    @property
    def id(self) -> str:
        return self.path.name

    def earlier_spec(self, number: int) -> Path:
        """The spec as it was before its `number`-th change, counted from 1 (`sedd extend`, `sedd requeue --gpus`)."""
        return self.path / f"spec-{number}.yaml"

    def table(self, name: str, suffix: str) -> Path:
        """A table of results, `scores.csv` for example."""
        return self.path / f"{name}.{suffix}"


def step_of(checkpoint: Path) -> int:
    """The step in a checkpoint's name; -1 for another file."""
    match = _CHECKPOINT.fullmatch(checkpoint.name)
    return int(match[1]) if match else -1


def list_checkpoints(folder: Path, *, unsealed: bool = False) -> list[Path]:
    """Checkpoints with a seal beside them, newest first; `unsealed`: those of killed writers, too.

    Raises:
        CheckpointError: the folder cannot be read, which for a `glob` is the same as an empty one.
    """
    try:
        names = set(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as e:
        raise cannot_read(folder, e) from e
    found = (folder / name for name in names)
    kept = (p for p in found if step_of(p) >= 0 and (unsealed or p.with_suffix(".json").name in names))
    return sorted(kept, key=step_of, reverse=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Seals:
    """What the seals of a run's checkpoints tell; the contents are not read."""

    whole: tuple[int, ...]
    """Steps of those that are there and as long as their seals say, newest first."""
    broken: Mapping[int, str]
    """Of those that are not: the step of their name, and what is wrong with them."""
    unreadable: Mapping[Path, OSError]
    """Files and folders of which nothing is known, and why."""


def read_seals(run: RunDir) -> Seals:
    """Look at every checkpoint of a run. One without a seal was never finished, and is none."""
    whole: list[int] = []
    broken: dict[int, str] = {}
    unreadable: dict[Path, OSError] = {}
    try:
        names = sorted(os.listdir(run.checkpoints))
    except FileNotFoundError:
        names = []
    except OSError as e:
        names, unreadable[run.checkpoints] = [], e
    for match in filter(None, map(_SEAL.fullmatch, names)):
        seal, step = run.checkpoints / match[0], int(match[1])
        try:
            if problem := _problem_of(seal):
                broken[step] = problem
            else:
                whole.append(step)
        except OSError as e:
            unreadable[Path(e.filename or seal)] = e
    return Seals(whole=tuple(sorted(whole, reverse=True)), broken=broken, unreadable=unreadable)


def _problem_of(seal: Path) -> str | None:
    """What is wrong with a sealed checkpoint. Raises: OSError where it may not be, or cannot be, looked at."""
    content = seal.read_bytes()
    try:
        fields = json.loads(content)
        files = {seal.with_suffix(".pt").name: int(fields["bytes"])}
        files |= {part["name"]: int(part["bytes"]) for part in fields.get("parts", ())}
        int(fields["step"])
    except (ValueError, KeyError, TypeError):
        return f"its seal {seal.name} is damaged"
    for name, size in files.items():
        try:
            seen = seal.with_name(name).stat().st_size
        except FileNotFoundError:
            return f"{name} is gone"
        if seen != size:
            return f"{name} has {seen:,} bytes, not {size:,}"
    return None


def sealed_steps(run: RunDir) -> list[int]:
    """Steps of the checkpoints that are there and as long as their seals say, newest first; contents are not read."""
    return list(read_seals(run).whole)


def run_id(now: dt.datetime, spec_hash: str) -> str:
    """`20261122-193359-1a2b3c4d`: UTC time, so that ids sort by age, and the start of the spec's hash."""
    return f"{now.astimezone(dt.UTC):%Y%m%d-%H%M%S}-{spec_hash[:8]}"


def create_run(runs: Path, name: str, identity: str, spec_yaml: str) -> RunDir:
    """Make the folders of a new run and write its spec; a taken id gets `-2`, `-3`, ….

    Raises:
        RunError: the folder cannot be made; what there was of it is removed.
    """
    made: Path | None = None
    try:
        make_shared(runs / name)
        made = _new_folder((runs / name).resolve(), identity)
        run = RunDir(made)
        for folder in (run.checkpoints, run.logs, run.submitit):
            folder.mkdir()
        # The manifest, written last and renamed into place, makes the folder durable.
        write_first(run.spec, spec_yaml)
    except OSError as e:
        if made is not None:
            shutil.rmtree(made, ignore_errors=True)
        raise RunError(
            f"cannot write {runs / name}: {(e.strerror or str(e)).lower()}",
            hint=ELSEWHERE,
        ) from e
    return run


def write_manifest(run: RunDir, manifest: Mapping[str, Any]) -> None:
    """Write manifest.json, the sign that the folder is a run."""
    write_text(run.manifest, json.dumps(manifest, indent=1, sort_keys=True) + "\n")


def read_manifest(run: RunDir) -> dict[str, Any]:
    """The manifest. Raises: RunError when the folder is not a run, or is damaged."""
    try:
        manifest = json.loads(run.manifest.read_bytes())
    except FileNotFoundError as e:
        raise RunError(f"{run.path} is not a run folder: it has no {run.manifest.name}") from e
    except json.JSONDecodeError as e:
        raise RunError(f"{run.manifest}:{e.lineno}: damaged: {e.msg}") from e
    except OSError as e:
        raise RunError(f"cannot read {run.manifest}: {e.strerror}") from e
    except ValueError as e:
        raise RunError(f"cannot read {run.manifest}: {e}") from e
    if not isinstance(manifest, dict):
        raise RunError(f"cannot read {run.manifest}: not a JSON object")
    return manifest


def is_run(run: RunDir) -> bool:
    """Whether the folder holds a run, damaged or not. Token stores and other folders have a manifest.json, too."""
    try:
        manifest = read_manifest(run)
    except RunError:
        return has_run_files(run)
    is_foreign = isinstance(manifest.get("format"), str)  # a run's format is a number, or not there
    return "spec_hash" in manifest or (has_run_files(run) and not is_foreign)


def has_run_files(run: RunDir) -> bool:
    """Whether the two files are there that every run has: for long lists, where no file is opened."""
    return os.path.exists(run.manifest) and os.path.exists(run.spec)


def spec_hashes(run: RunDir) -> list[str]:
    """Hashes of the specs for which the run stands: its own, then those that it had before it was changed.

    None of a folder that is not a run, or is damaged.
    """
    try:
        manifest = read_manifest(run)
    except RunError:
        return []
    own = manifest.get("spec_hash")
    return [*([str(own)] if own else []), *map(str, manifest.get("earlier_hashes") or ())]


def read_lineage(run: RunDir) -> dict[str, Any] | None:
    """The network that a fine-tuning started from, or, before it has, was submitted with; None for other runs.

    Raises:
        RunError, OSError: it cannot be read.
    """
    try:
        lineage = json.loads(run.lineage.read_bytes())
    except FileNotFoundError:
        lineage = read_manifest(run).get("parent")
    except ValueError as e:
        raise RunError(f"{run.lineage}: damaged: {e}") from e
    return lineage if isinstance(lineage, dict) else None


def _new_folder(parent: Path, identity: str) -> Path:
    for number in range(1, 1_000_000):
        path = parent / (identity if number == 1 else f"{identity}-{number}")
        try:
            os.mkdir(path)
        except FileExistsError:
            continue
        return path
    raise RunError(f"no free folder name for {identity} in {parent}")
