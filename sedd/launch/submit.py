"""From a resolved request to submitted runs: folders, frozen code, manifests, submitit."""

import datetime as dt
import json
import os
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sedd.cluster.identity import Mark
from sedd.cluster.profile import Profile, SlurmProfile
from sedd.launch.dependencies import dependency_on
from sedd.launch.freeze import (
    freeze_code,
    git_state,
    imported_package,
    share_code,
    slots_folder,
    versions,
)
from sedd.launch.protocol import FORMAT
from sedd.launch.resources import (
    Parameters,
    local_parameters,
    render_sbatch,
    require_no_secrets,
    require_plain_path,
    slurm_parameters,
)
from sedd.launch.submit_local import submit_local
from sedd.launch.submit_slurm import in_threads, share_out, submit_slurm, with_comment
from sedd.rundir.events import append_event
from sedd.rundir.layout import RunDir, create_run, run_id, write_manifest
from sedd.spec.load import Request, dump_resolved
from sedd.spec.task import TaskSpec


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """Run folders that are ready to be submitted, and what they share."""

    runs: tuple[RunDir, ...]
    folder: Path
    """Holds `code/` and `submitit/`: the run's own folder, or that of the sweep."""
    made: list[Path] = field(default_factory=list)
    """Folders to remove when the submission fails."""


def submit(order: Order, *, now: dt.datetime) -> tuple[RunDir, ...]:
    """Make the run folders and submit them; whatever was not submitted is removed again.

    Raises:
        SeddError: nothing was submitted, or (an array of a large sweep refused) only the runs it names.
    """
    require_no_secrets(order.profile)
    require_plain_path(order.runs)
    if not isinstance(order.profile, SlurmProfile):
        for experiment in order.request.experiments:
            local_parameters(experiment, os.environ)
    dependency = dependency_on(order.after, executor=order.profile.executor)
    made: list[Path] = []
    try:
        batch = make_runs(order, now=now, made=made)
        _submit(order, batch, dependency)
    except BaseException:  # Ctrl-C too: no folder may look submitted that is not
        _remove_unsubmitted(made)
        raise
    return batch.runs


def render(order: Order, *, now: dt.datetime) -> str:
    """What `submit` would hand to the scheduler: batch scripts, or the local command. Touches nothing."""
    require_no_secrets(order.profile)
    require_plain_path(order.runs)
    experiments = order.request.experiments
    first = order.runs / experiments[0].name
    identity = run_id(now, experiments[0].hash())
    folder = first / (identity if len(experiments) == 1 else f"sweep-{identity}")
    dependency = dependency_on(order.after, executor=order.profile.executor)
    if isinstance(order.profile, SlurmProfile):
        mark = Mark(token=16 * "0", folder=str(folder))  # a submission draws its own
        return "\n".join(
            render_sbatch(with_comment(parameters, mark), submitit=folder / "submitit", tasks=len(members))
            for parameters, members in _arrays(order, folder, dependency)
        )
    for experiment in experiments:
        local_parameters(experiment, os.environ)
    runs = len(experiments)
    at_once = order.request.parallel or 1
    code, where = shlex.quote(str(folder / "code")), shlex.quote(str(folder))
    return (
        f"# {runs} run{'s, ' + str(at_once) + ' at a time,' if runs > 1 else ''} on this machine, in the background\n"
        f"PYTHONPATH={code} python -m sedd.launch.submit_local {where}{'…' if runs > 1 else ''}\n"
    )


def make_runs(order: Order, *, now: dt.datetime, made: list[Path]) -> Batch:
    """The run folders of an order, complete with frozen code and manifest; each new folder is noted in `made`."""
    experiments = order.request.experiments

    def make(experiment: TaskSpec) -> RunDir:
        run = create_run(
            order.runs, experiment.name, run_id(now, experiment.hash()), dump_resolved(experiment)
        )
        made.append(run.path)
        return run

    folders = in_threads(make, experiments)
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
        "after": [str(run.path) for run in order.after],
        "format": FORMAT,
    }

    def describe(number: int) -> None:
        if len(folders) > 1:
            share_code(folders[number], shared / "code")
        _describe(folders[number], order, number, about, now)

    in_threads(describe, range(len(folders)))
    return Batch(runs=tuple(folders), folder=shared, made=made)


def _submit(order: Order, batch: Batch, dependency: str | None) -> None:
    if not isinstance(order.profile, SlurmProfile):
        submit_local(batch.runs)
        return
    for parameters, members in _arrays(order, batch.folder, dependency):
        submit_slurm([batch.runs[n] for n in members], parameters, folder=batch.folder / "submitit")


def _slurm_parameters(order: Order, folder: Path, dependency: str | None, experiment: TaskSpec) -> Parameters:
    assert isinstance(order.profile, SlurmProfile)
    return slurm_parameters(
        experiment,
        order.profile,
        code=folder / "code",
        submitit=folder / "submitit",
        parallel=order.request.parallel,
        dependency=dependency,
    )


def _arrays(order: Order, folder: Path, dependency: str | None) -> list[tuple[Parameters, list[int]]]:
    """Parameters of each array and its experiments (by number), which ask for the same resources.

    SLURM limits the tasks at a time of each array; the sweep's limit is shared out.
    """
    arrays: dict[str, tuple[Parameters, list[int]]] = {}
    for number, experiment in enumerate(order.request.experiments):
        parameters = _slurm_parameters(order, folder, dependency, experiment)
        arrays.setdefault(json.dumps(parameters, sort_keys=True), (parameters, []))[1].append(number)
    return [(share_out(parameters, len(arrays)), members) for parameters, members in arrays.values()]


def _make_sweep_folder(shared: Path, order: Order) -> None:
    (shared / "submitit").mkdir(parents=True)
    if isinstance(order.profile, SlurmProfile):
        return
    slots = slots_folder(shared / "code")
    slots.mkdir()
    for number in range(order.request.parallel or 1):  # a machine without a queue: one run after the other
        (slots / f"slot-{number}").touch()


def _describe(run: RunDir, order: Order, number: int, about: dict[str, Any], now: dt.datetime) -> None:
    """Write the manifest, and the preflight's event."""
    experiment = order.request.experiments[number]
    own = {
        "name": experiment.name,
        "id": run.id,
        "spec_hash": experiment.hash(),
        "point": order.request.points[number],
        "task": experiment.task,
        "steps": experiment.steps,
        "ranks": experiment.resources.ranks,
        "gpus": experiment.resources.nodes * experiment.resources.gpus_per_node,
        "parameters": order.parameters[number],
        "first_batch": order.first_batches[number] if order.first_batches else None,
    }
    write_manifest(run, about | own)
    if order.findings is not None:
        append_event(
            run.events, "preflight", attempt=0, now=now, side="login", ok=True, findings=list(order.findings)
        )


def _git(package: Path) -> dict[str, str | None] | None:
    state = git_state(package)
    return None if state is None else {"commit": state.commit, "dirty": state.dirty}


def _remove_unsubmitted(made: Sequence[Path]) -> None:
    """Remove run folders without a `submitted` event, and a sweep's folder when none of its runs is left."""
    left = False
    for path in made:
        if path.name.startswith("sweep-"):
            continue
        if b'"submitted"' in _content(RunDir(path).events):
            left = True
        else:
            shutil.rmtree(path, ignore_errors=True)
    for path in made:
        if path.name.startswith("sweep-") and not left:
            shutil.rmtree(path, ignore_errors=True)


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""
