"""From a resolved request to run folders that are ready to be submitted: spec, frozen code, manifest."""

import datetime as dt
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sedd.cluster.profile import Profile, SlurmProfile
from sedd.finetune.parent import adopt
from sedd.launch.freeze import (
    freeze_code,
    git_state,
    imported_package,
    share_code,
    slots_folder,
    versions,
)
from sedd.launch.protocol import FORMAT
from sedd.launch.submit_slurm import in_threads
from sedd.notify.marker import watch_ends_if_asked
from sedd.rundir.events import append_event
from sedd.rundir.layout import RunDir, create_run, read_manifest, run_id, write_manifest
from sedd.spec.load import Request, dump_resolved


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """A request, where it shall run, and what the command line found out about it."""

    request: Request
    profile: Profile
    runs: Path
    """Root of all runs."""
    parameters: Sequence[int | None]
    """Network parameters of each experiment; None where it has no network of its own."""
    findings: Sequence[dict[str, Any]] | None = None
    """Login preflight's findings that were not OK; None: it was skipped."""
    first_batches: Sequence[str | None] | None = None
    """Hash of each experiment's first batch as the login node reads it; None: it was not looked at."""
    after: Sequence[RunDir] = ()
    """Runs that must have completed before these start."""
    more: Sequence[Mapping[str, Any]] = ()
    """Further fields of each run's manifest: what a plan knows of it; none for others."""
    hashes: Sequence[str] = ()
    """Hash of each spec as it was asked for, where the runs have another shape; none: the experiments' own."""

    def hash_of(self, number: int) -> str:
        """By which a later submission of the same spec finds this run."""
        return self.hashes[number] if self.hashes else self.request.experiments[number].hash()


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Run folders that are ready to be submitted, and what they share."""

    runs: tuple[RunDir, ...]
    folder: Path
    """Holds `code/` and `submitit/`: the run's own folder, or that of the sweep."""
    made: list[Path] = field(default_factory=list)
    """New folders, to be removed when nothing of it is submitted."""


def make_runs(order: Order, *, now: dt.datetime, made: list[Path]) -> Batch:
    """The run folders of an order, complete with frozen code and manifest; each new folder is noted in `made`."""

    def make(number: int) -> RunDir:
        run = _create(order, number, now)
        made.append(run.path)
        return run

    folders = in_threads(make, range(len(order.request.experiments)))
    shared = folders[0].path
    if len(folders) > 1:
        shared = folders[0].path.parent / f"sweep-{folders[0].id}"
        made.append(shared)
        _make_sweep_folder(shared, order)
    package = imported_package()
    frozen = freeze_code(shared / "code", package=package)
    about = {
        "versions": versions(),
        "git": _git(package),
        "code_hash": frozen,
        "created": now.astimezone(dt.UTC).isoformat(timespec="seconds"),
        "executor": order.profile.executor,
        "profile": order.profile.model_dump(mode="json"),
        "sweep": shared.name if len(folders) > 1 else None,
        "halving": shared.name if order.request.halving else None,
        "parallel": order.request.parallel,
        "after": [str(run.path) for run in order.after],
        "format": FORMAT,
    }

    def describe(number: int) -> None:
        if len(folders) > 1:
            share_code(folders[number], shared / "code")
        _describe(folders[number], order, number, about, now)

    in_threads(describe, range(len(folders)))
    watch_ends_if_asked(order.runs, order.profile.notify)
    return Batch(runs=tuple(folders), folder=shared, made=made)


def add_points(
    order: Order, sweep: Path, numbers: Sequence[int], *, like: RunDir, now: dt.datetime
) -> list[RunDir]:
    """Run folders for points of a sweep whose making was interrupted; `like` is a point that is there.

    Raises:
        RunError: a folder cannot be made.
    """
    about = read_manifest(like)  # what is a point's own is written anew

    def add(number: int) -> RunDir:
        run = _create(order, number, now)
        share_code(run, sweep / "code")
        _describe(run, order, number, about, now)
        return run

    return in_threads(add, numbers)


def _create(order: Order, number: int, now: dt.datetime) -> RunDir:
    experiment = order.request.experiments[number]
    identity = run_id(now, order.hash_of(number))
    return create_run(order.runs, experiment.name, identity, dump_resolved(experiment))


def _make_sweep_folder(shared: Path, order: Order) -> None:
    (shared / "submitit").mkdir(parents=True)
    if isinstance(order.profile, SlurmProfile):
        return
    slots = slots_folder(shared / "code")
    slots.mkdir()
    cards = max(experiment.resources.gpus_per_node for experiment in order.request.experiments)
    for number in range(order.request.parallel or 1):  # a machine without a queue: one run after the other
        first_card = str(number * cards)  # of those that are visible
        (slots / f"slot-{number}").write_text(first_card)


def _describe(run: RunDir, order: Order, number: int, about: dict[str, Any], now: dt.datetime) -> None:
    """Write the manifest, and the preflight's event."""
    experiment = order.request.experiments[number]
    own = {
        "name": experiment.name,
        "id": run.id,
        "spec_hash": order.hash_of(number),
        "point": order.request.points[number],
        "task": experiment.task,
        "steps": experiment.steps,
        "ranks": experiment.resources.ranks,
        "gpus": experiment.resources.all_nodes * experiment.resources.gpus_per_node,
        "parameters": order.parameters[number],
        "parent": adopt(run, experiment),
        "first_batch": order.first_batches[number] if order.first_batches else None,
        "halving": _halving(order, number, group=about["halving"]),
    }
    more = {
        name: value for name, value in (order.more[number] if order.more else {}).items() if name != "halving"
    }
    write_manifest(run, about | own | more)
    if order.findings is not None:
        append_event(
            run.events, "preflight", attempt=0, now=now, side="login", ok=True, findings=list(order.findings)
        )


def _halving(order: Order, number: int, *, group: Any) -> dict[str, Any] | None:
    """What the point must know of its halving sweep; `group` names it, or is what another point's manifest has."""
    halving, experiment = order.request.halving, order.request.experiments[number]
    if halving is None or experiment.steps is None:
        return None
    given = (
        dict(order.more[number]["halving"])
        if order.more
        else {"points": len(order.request.points), "index": number}
    )
    name = group["group"] if isinstance(group, dict) else group
    return {
        "group": name,
        "rungs": list(halving.decisive(experiment.steps)),
        "keep": str(halving.share),
    } | given


def _git(package: Path) -> dict[str, str | None] | None:
    state = git_state(package)
    return None if state is None else {"commit": state.commit, "dirty": state.dirty}


def remove_runs(made: Sequence[Path]) -> None:
    """Remove folders that were made for a submission of which nothing came."""
    for path in made:
        shutil.rmtree(path, ignore_errors=True)
