"""What a stage's result follows from: its spec, the code that matters, the content of its data, its parents."""

import functools
import hashlib
import json
import os
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sedd.errors import SeddError
from sedd.launch.freeze import code_hash, imported_package
from sedd.launch.submitted import find_all_of
from sedd.rundir.attempts import is_completed
from sedd.rundir.events import read_events
from sedd.rundir.find import find_runs, list_runs_of_name
from sedd.rundir.layout import RunDir, read_manifest
from sedd.rundir.owner import other_owner
from sedd.spec.load import Request
from sedd.spec.task import TaskSpec

_NETWORK = ("diffusion", "model", "conditions", "data", "training", "finetune")
ROOMS: dict[str, tuple[str, ...]] = {
    "data": ("data",),
    "train": _NETWORK,
    "evaluate": (*_NETWORK, "inference", "design"),
    "score": (*_NETWORK, "inference", "design"),
    "embed": (*_NETWORK, "inference", "design"),
    "sample": (*_NETWORK, "inference", "design", "quality"),
    "command": ("inference",),
}
"""Task to the rooms of the package that its result depends on: a new column of `sedd status` trains nothing anew."""
OUTPUTS = {("build", "store")}
"""Keys of specs that name what a run makes, not what it reads."""
_SAYS_WHAT_IT_IS = ("manifest.json", "config.json", "adapters.json")
"""Files of a store or a run, of an export, of adapters alone."""
WHOLE_BYTES = 64 << 20
"""A larger file is known by its size, its time and its two ends: UniRef50 would take minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What a run is made from, as its manifest keeps it.

    Attributes:
        spec: the spec's hash.
        code: of the rooms that matter.
        data: path to content, of files and folders that no stage of the plan makes.
        needs: needed stage to the key of the runs that were waited for.
    """

    spec: str
    code: str
    data: Mapping[str, str]
    needs: Mapping[str, str]

    def as_manifest(self) -> dict[str, Any]:
        return {"spec": self.spec, "code": self.code, "data": dict(self.data), "needs": dict(self.needs)}


def inputs_of(
    experiment: TaskSpec, *, needs: Mapping[str, str], made: Collection[Path], fellows: Request | None = None
) -> Inputs:
    """The inputs of a run; `made` are files and folders that other stages make, which speak by their own keys.

    `fellows`: all points of a halving sweep: how far one comes follows from the others.
    """
    read = [path for key, path in experiment.paths().items() if key not in OUTPUTS]
    own = [path for path in read if not any(path.is_relative_to(product) for product in made)]
    own += experiment.file_words()
    return Inputs(
        spec=experiment.hash() + (f"-{_sweep_key(fellows)}" if fellows else ""),
        code=code_that_matters(experiment.task, imported_package()),
        data={str(path): content_of(path) for path in own},
        needs=needs,
    )


def _sweep_key(request: Request) -> str:
    """Changes with any point of a halving sweep, and with its rule."""
    rule = request.halving.model_dump(mode="json") if request.halving else None
    return _digest([[experiment.hash() for experiment in request.experiments], rule])


def joined_key(runs: Collection[RunDir]) -> str:
    """One key of several runs' inputs, as their manifests have them."""
    return _digest([read_manifest(run).get("inputs") for run in runs])


def find_known(
    experiment: TaskSpec, inputs: Inputs, runs: Path, *, any_code: bool, of_others: bool
) -> RunDir | None:
    """The newest run of the same inputs, whatever became of it; another user's only if it has completed.

    Without `of_others` only this user's: nobody can follow up or end what is another's.
    """
    wanted = inputs.as_manifest()
    for run in find_all_of(experiment, runs):
        if other_owner(run) and not (of_others and is_completed(read_events(run.events))):
            continue
        seen = read_manifest(run).get("inputs")
        if seen and (seen | {"code": wanted["code"]} if any_code else seen) == wanted:
            return run
    return None


def difference(seen: Mapping[str, Any] | None, inputs: Inputs) -> str:
    """Why a stage runs anew: what has changed since a run of it, in words."""
    wanted = inputs.as_manifest()
    changed = [name for name in ("spec", "code", "data", "needs") if (seen or {}).get(name) != wanted[name]]
    return f"{' and '.join(changed)} changed" if seen and changed else "new"


@functools.cache
def code_that_matters(task: str, package: Path) -> str:
    """Hash over the sources of the rooms on which the task's result depends."""
    return _digest([code_hash(package / room) for room in ROOMS[task]])


@functools.cache
def content_of(path: Path) -> str:
    """A hash that changes with what a file holds; of a store, an export or a run with what its manifest says.

    Of a folder of runs it is that of the runs which its path names: the newest one, or the sweep that this belongs to.
    """
    if path.is_dir():
        listed = [p for name in _SAYS_WHAT_IT_IS if (p := path / name).is_file()]
        newest = sorted(p.name for p in path.glob("checkpoints/step-*.json"))[-1:]
        runs = [] if listed else [[run.id, content_of(run.path)] for run in _runs_named_by(path)]
        return _digest([*(content_of(p) for p in listed), *newest, *runs])
    try:
        with path.open("rb") as file:
            return _of_file(file.fileno())
    except OSError:
        return "absent"


def _runs_named_by(folder: Path) -> list[RunDir]:
    """The runs that a path names as `runs/NAME`, or as a sweep's folder; of other folders none."""
    if not (list_runs_of_name(folder) or folder.name.startswith("sweep-")):
        return []
    try:
        return find_runs(str(folder), folder)
    except SeddError:  # the error is reported when the network is loaded
        return []


def _of_file(handle: int) -> str:
    about = os.fstat(handle)
    digest = hashlib.sha256(str(about.st_size).encode())
    if about.st_size > WHOLE_BYTES:
        digest.update(str(about.st_mtime_ns).encode())
        places = [0, about.st_size - (1 << 20)]
    else:
        places = list(range(0, about.st_size, 1 << 20))
    for place in places:
        digest.update(os.pread(handle, 1 << 20, place))
    return digest.hexdigest()[:16]


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
