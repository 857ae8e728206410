"""Change the spec of a run that exists, between two attempts: the old spec is kept, its hash stays in the ledger."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sedd.cluster.profile import STORED, Profile, read_profile
from sedd.errors import RunError, UsageError
from sedd.launch.resources import read_manifest_profile
from sedd.rundir.atomic import write_text
from sedd.rundir.layout import RunDir, read_manifest, write_manifest
from sedd.spec.experiment import Experiment
from sedd.spec.load import load_resolved
from sedd.spec.task import TaskSpec
from sedd.yaml import Document, dump_document, load_document, validate

Changes = Mapping[tuple[str, ...], Any]
"""Keys of a spec, such as ("training", "steps"), to their new values as YAML has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecChange:
    """A spec as it shall be, checked and not written yet."""

    run: RunDir
    origin: str
    """The options with which it was asked for."""
    text: str
    """Of the new spec.yaml: what the run's frozen code does not know is not in it."""
    experiment: TaskSpec
    profile: Profile
    manifest: Mapping[str, Any]
    earlier: TaskSpec
    earlier_profile: Profile
    earlier_text: str
    earlier_manifest: Mapping[str, Any]


def require_training(run: RunDir) -> Experiment:
    """The spec of a run. Raises: UsageError if the run is not a training; SpecError for a damaged spec."""
    experiment = load_resolved(run.spec)
    if not isinstance(experiment, Experiment):
        raise UsageError(f"run {run.id} has task: {experiment.task}; only a training has steps and ranks")
    return experiment


def plan_change(
    run: RunDir, changes: Changes, *, origin: str, profile: Mapping[str, Any] | None = None
) -> SpecChange:
    """What changing these keys makes of a run; `profile` are fields of its cluster profile, `origin` who asked.

    Raises:
        SpecError: the changed spec would not be one; the message names `origin`.
        RunError: the run folder is damaged.
    """
    document = load_document(run.spec)
    data = copy.deepcopy(document.data)
    for key, value in changes.items():
        _set(data, key, value)
    earlier = load_resolved(run.spec)
    experiment = validate(type(earlier), Document(name=origin, data=data, lines={}))
    manifest = read_manifest(run)
    stored = dict(manifest.get("profile") or {}) | dict(profile or {})
    own = {
        "spec_hash": experiment.hash(),
        "steps": experiment.steps,
        "ranks": experiment.resources.ranks,
        "gpus": experiment.resources.all_nodes * experiment.resources.gpus_per_node,
        "profile": stored,
        "earlier_hashes": _with_hash(manifest, experiment.hash()),
    }
    return SpecChange(
        run=run,
        origin=origin,
        text=dump_document(data),
        experiment=experiment,
        profile=read_profile(Document(name=origin, data=stored, lines={}), context=STORED),
        manifest=manifest | own,
        earlier=earlier,
        earlier_profile=read_manifest_profile(run),
        earlier_text=run.spec.read_text(encoding="utf-8"),
        earlier_manifest=manifest,
    )


def write_change(change: SpecChange) -> None:
    """Write the new spec; the old one stays as `spec-1.yaml`, `spec-2.yaml`, …. Nothing of the run may be alive.

    Killed between two files it leaves a manifest that is ahead of its spec; the same command puts that right.

    Raises:
        RunError: a file cannot be written.
    """
    run = change.run
    try:
        if change.text != change.earlier_text:
            number = next(n for n in range(1, 1_000_000) if not run.earlier_spec(n).exists())
            newest = run.earlier_spec(number - 1)
            if number == 1 or newest.read_text(encoding="utf-8") != change.earlier_text:
                write_text(run.earlier_spec(number), change.earlier_text)
        write_manifest(run, change.manifest)
        if change.text != change.earlier_text:
            write_text(run.spec, change.text)
    except OSError as e:
        raise RunError(f"cannot write {e.filename or run.path}: {e.strerror or e}") from e


def restore(change: SpecChange) -> None:
    """Put back what `write_change` has changed. Raises: RunError where a file cannot be written."""
    try:
        write_text(change.run.spec, change.earlier_text)
        write_manifest(change.run, change.earlier_manifest)
    except OSError as e:
        raise RunError(f"cannot write {e.filename or change.run.path}: {e.strerror or e}") from e


def _set(data: dict[str, Any], key: tuple[str, ...], value: Any) -> None:
    for part in key[:-1]:
        data = data.setdefault(part, {})
    data[key[-1]] = value


def _with_hash(manifest: Mapping[str, Any], new: str) -> list[str]:
    """Hashes of the specs that the run had before, oldest first."""
    before = [*(manifest.get("earlier_hashes") or ()), manifest.get("spec_hash")]
    return [each for each in dict.fromkeys(before) if each and each != new]
