"""What earlier runs in the runs folder measured of the same network on the same cards."""

import datetime as dt
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sedd.cluster.profile import SlurmProfile
from sedd.errors import SeddError
from sedd.model.size import parameter_count
from sedd.rundir.attempts import slowest_save_s
from sedd.rundir.events import Event, read_events
from sedd.rundir.find import list_runs
from sedd.rundir.layout import RunDir, read_manifest
from sedd.soonest.forecast import PAUSE_IN_PLACE_S, PAUSE_S, START_S, Work
from sedd.soonest.shapes import Layout
from sedd.soonest.speed import Measured, Speed, speed_of
from sedd.soonest.v100 import estimated_residue_s
from sedd.spec.experiment import Experiment
from sedd.spec.load import load_resolved

MOST_RUNS = 5
"""Runs whose speed counts, the newest ones."""
_LOOKED_AT = 500
_LEAST_S = 5.0
"""Seconds between two checkpoints that tell a speed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Earlier:
    """What is known from earlier runs; empty or None: nothing."""

    runs: tuple[str, ...] = ()
    measured: tuple[Measured, ...] = ()
    restart_s: float | None = None
    """From the start of an attempt to where its training goes on."""
    save_s: float | None = None
    """The longest that a checkpoint took."""


def find_earlier(
    experiment: Experiment, profile: SlurmProfile, runs: Path, *, patience_s: float = math.inf
) -> Earlier:
    """The newest runs below `runs` with the same network, crop and type of card, as far as found in `patience_s`.

    Of a training on CPUs, those on CPUs with as many processes, of as many cores each.
    """
    until = time.monotonic() + patience_s
    parameters = parameter_count(experiment.model)
    names, measured, restarts, saves = list[str](), list[Measured](), list[float](), list[float]()
    for run in reversed(list_runs(runs)[-_LOOKED_AT:]):
        if len(names) == MOST_RUNS or time.monotonic() > until:
            break
        try:
            like = _same(run, experiment, profile, parameters)
            events = read_events(run.events) if like is not None else []
        except (SeddError, OSError):
            continue
        if like is None:
            continue
        found = list(_measured_alike(events, like, experiment))
        if not found:
            continue
        names.append(f"{run.name}/{run.id}")
        measured += found
        restarts += restarts_in(events)
        if (save_s := slowest_save_s(events)) is not None:
            saves.append(save_s)
    return Earlier(
        runs=tuple(names),
        measured=tuple(measured),
        restart_s=statistics.median(restarts) if restarts else None,
        save_s=max(saves, default=None),
    )


def foreseen_speed(experiment: Experiment, earlier: Earlier) -> Speed:
    """As earlier runs measured it, else as it is estimated for a V100."""
    parameters = parameter_count(experiment.model)
    if earlier.measured:
        others = f" and {len(earlier.runs) - 1} more" if len(earlier.runs) > 1 else ""
        return speed_of(
            earlier.measured, parameters=parameters, source=f"measured, run {earlier.runs[0]}{others}"
        )
    residue_s = estimated_residue_s(experiment.model, experiment.data.max_length)
    return Speed(residue_s=residue_s, parameters=parameters, source="estimated for a V100, not measured")


def work_left(experiment: Experiment, steps: int, profile: SlurmProfile, earlier: Earlier) -> Work:
    """`steps` of a training, in attempts that start and save as earlier ones did."""
    return Work(
        steps=steps,
        residues_per_step=experiment.training.residues_per_step,
        start_s=earlier.restart_s or START_S,
        pause_s=PAUSE_IN_PLACE_S if profile.requeue else PAUSE_S,
        save_s=earlier.save_s,
    )


def _measured_alike(events: Sequence[Event], like: Experiment, experiment: Experiment) -> Iterator[Measured]:
    """What tells of the speed of `experiment`: by its GPUs, or by as many processes without any."""
    residues = like.training.residues_per_step
    if experiment.resources.gpus_per_node:
        yield from measured_in(events, residues)
    elif like.resources.cpus_per_process == experiment.resources.cpus_per_process:
        own = cpu_layout(experiment)
        yield from (each for each in measured_on_cpus(events, residues) if each.layout == own)


def measured_in(events: Sequence[Event], residues_per_step: int) -> Iterator[Measured]:
    """The speed of each attempt that saved twice, or resumed and saved, on GPUs: between the first and the last."""
    for start in (e for e in events if e.event == "attempt_started" and int(e.get("gpus") or 0)):
        gpus = int(start.get("gpus"))  # those of spare nodes, too, whose processes only wait
        gpus = min(gpus, int(start.get("ranks") or gpus))
        yield from _measured_after(start, events, residues_per_step, count=gpus)


def measured_on_cpus(events: Sequence[Event], residues_per_step: int) -> Iterator[Measured]:
    """As `measured_in`, of attempts without GPUs: of processes, in their place."""
    for start in (e for e in events if e.event == "attempt_started" and not int(e.get("gpus") or 0)):
        ranks = int(start.get("ranks") or 1)
        yield from _measured_after(start, events, residues_per_step, count=ranks)


def cpu_layout(experiment: Experiment) -> Layout:
    """Processes on nodes, of a training without GPUs."""
    return Layout(nodes=experiment.resources.nodes, gpus_per_node=experiment.resources.ranks_per_node)


def _measured_after(
    start: Event, events: Sequence[Event], residues_per_step: int, *, count: int
) -> Iterator[Measured]:
    """The speed of an attempt of `count` GPUs or processes, where it is known."""
    own = [e for e in events if e.attempt == start.attempt and e.event in ("resumed", "checkpoint")]
    points = [(e.t, int(e.get("step", 0))) for e in own]
    if len(points) < 2:
        return
    (first, begun), (last, reached) = points[0], points[-1]
    seconds = (last - first) / dt.timedelta(seconds=1)
    if seconds < _LEAST_S or reached <= begun:
        return
    nodes = int(start.get("nodes") or 1)
    yield Measured(
        layout=Layout(nodes=nodes, gpus_per_node=count // nodes),
        residues_per_s=(reached - begun) * residues_per_step / seconds,
        residues_per_step=residues_per_step,
    )


def restarts_in(events: Sequence[Event]) -> Iterator[float]:
    """Seconds from the start of each attempt to where it had resumed."""
    started = {e.attempt: e.t for e in events if e.event == "attempt_started"}
    for event in events:
        if event.event == "resumed" and event.attempt in started:
            yield (event.t - started[event.attempt]).total_seconds()


def _same(run: RunDir, experiment: Experiment, profile: SlurmProfile, parameters: int) -> Experiment | None:
    manifest = read_manifest(run)
    card = (manifest.get("profile") or {}).get("gpu") or {}
    if manifest.get("parameters") != parameters or card.get("type") != profile.gpu.type:
        return None
    like = load_resolved(run.spec)
    if not isinstance(like, Experiment) or like.model != experiment.model:
        return None
    return like if like.data.max_length == experiment.data.max_length else None
