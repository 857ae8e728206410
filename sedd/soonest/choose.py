"""Ask SLURM when a job of each shape would start, and pick the shape that ends first. Submits nothing."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sedd.cluster.command import SlurmUnreachableError
from sedd.cluster.profile import Profile, SlurmProfile
from sedd.errors import ClusterError, RunError, UsageError
from sedd.soonest.earlier_runs import find_earlier, foreseen_speed, work_left
from sedd.soonest.forecast import (
    Forecast,
    Work,
    forecast,
    refused,
    soonest,
    walltime_for,
)
from sedd.soonest.queue_wait import Room, query_room, query_wait
from sedd.soonest.shapes import (
    JobShape,
    granted,
    in_shape,
    layouts,
    left_out,
    own_shape,
    time_limits_s,
    why_not,
)
from sedd.soonest.speed import Speed
from sedd.spec.experiment import Experiment
from sedd.spec.task import TaskSpec

MIN_S, MAX_S = 60.0, 3600.0
"""Between two checkpoints, where the run decides how often it saves (`training/cadence.py`)."""
_SAVE_S = 6.0
"""Of a checkpoint, where no run has measured it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """A shape, and what it was chosen from.

    Attributes:
        picked: the one that ends first.
        forecasts: all that were looked at, by GPUs and time limit.
        fixed: the one that is taken without a choice.
        speed: by which training was foreseen.
        left_out: numbers of GPUs that the training cannot have, with the reason.
    """

    picked: Forecast
    forecasts: tuple[Forecast, ...]
    fixed: Forecast
    speed: Speed
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is to end soon.

    Attributes:
        steps: that are left.
        checkpoints: time limits are also looked at that are just enough for this many checkpoints; None: not.
        is_running: it trains now, in the shape of its spec: in that it need not wait.
    """

    experiment: Experiment
    steps: int
    checkpoints: int | None = None
    is_running: bool = False


def require_choice(experiment: TaskSpec, profile: Profile) -> tuple[Experiment, SlurmProfile]:
    """The training and the SLURM site, where a shape can be chosen for them. Raises: UsageError."""
    if not isinstance(profile, SlurmProfile):
        raise UsageError("--soonest asks SLURM, and this is a profile without it", hint="--cluster PROFILE")
    if not isinstance(experiment, Experiment):
        raise UsageError(f"--soonest foresees trainings; {experiment.name} has task: {experiment.task}")
    asked = experiment.resources
    if not asked.picked_fields:
        raise UsageError(
            f"--soonest has nothing to pick from: the spec of {experiment.name} has one shape",
            hint="for example --set resources.gpus=1-8 --set resources.walltime=30m-24h",
        )
    if not asked.gpus_per_node:
        raise UsageError(f"--soonest foresees trainings on GPUs; {experiment.name} asks for none")
    return experiment, profile


def choose(wish: Wish, profile: SlurmProfile, *, runs: Path, patience_s: float = math.inf) -> Choice:
    """The shape in which the run ends first, by SLURM's answers and the speed of earlier runs below `runs`.

    After `patience_s` no further earlier run, and no further shape, is looked at.

    Raises:
        RunError: SLURM takes none of the shapes. SlurmUnreachableError: it does not answer.
    """
    until = time.monotonic() + patience_s
    room = query_room(profile)
    experiment = wish.experiment
    earlier = find_earlier(experiment, profile, runs, patience_s=until - time.monotonic())
    speed = foreseen_speed(experiment, earlier)
    work = work_left(experiment, wish.steps, profile, earlier)
    own = own_shape(experiment, profile)
    asked = {own: _foresee(own, wish, work, speed, room, profile)}
    for shape in _shapes(wish, profile, work, speed, room):
        if shape not in asked and time.monotonic() < until:
            asked[shape] = _foresee(shape, wish, work, speed, room, profile)
    forecasts = sorted(asked.values(), key=lambda each: (each.shape.layout.gpus, each.shape.walltime_s))
    picked = soonest(forecasts)
    if picked is None:
        reason = asked[own].refusal or forecasts[-1].refusal
        raise RunError(f"SLURM takes none of {len(forecasts)} shapes; of {own} it says: {reason}")
    return Choice(
        picked=picked,
        forecasts=tuple(forecasts),
        fixed=asked[own],
        speed=speed,
        left_out=tuple(left_out(experiment, most_per_node=_most_per_node(wish, room))),
    )


def _foresee(
    shape: JobShape, wish: Wish, work: Work, speed: Speed, room: Room, profile: SlurmProfile
) -> Forecast:
    try:
        wait = query_wait(in_shape(wish.experiment, shape), profile, room)
    except SlurmUnreachableError:
        raise
    except ClusterError as e:
        return refused(shape, e.message.rpartition(": ")[2])
    has_nodes = wish.is_running and shape == own_shape(wish.experiment, profile)
    first_s = 0.0 if has_nodes else wait.first_s
    return forecast(shape, work, speed, wait_s=first_s, waits_again_s=wait.again_s)


def _shapes(wish: Wish, profile: SlurmProfile, work: Work, speed: Speed, room: Room) -> list[JobShape]:
    asked = wish.experiment.resources
    shortest, longest = asked.walltimes or (asked.walltime, asked.walltime)
    bounds_s = (granted(shortest, profile), granted(longest, profile))
    found = []
    for layout in layouts(wish.experiment, most_per_node=_most_per_node(wish, room)):
        step_s = speed.step_s(work.residues_per_step, layout)
        saves_s = (
            [wish.checkpoints * _between_saves_s(wish.experiment, work, step_s)] if wish.checkpoints else []
        )
        limits = time_limits_s(
            bounds_s,
            whole_s=walltime_for(work.steps * step_s, work),
            checkpoints_s=[walltime_for(each, work) for each in saves_s],
        )
        found += [JobShape(layout=layout, walltime_s=limit) for limit in limits]
    return found


def _most_per_node(wish: Wish, room: Room) -> int:
    return room.most_per_node or wish.experiment.resources.gpus_per_node


def _between_saves_s(experiment: Experiment, work: Work, step_s: float) -> float:
    """Seconds from one periodic checkpoint to the next."""
    wish = experiment.training.checkpoint
    if wish.every_steps is not None:
        return wish.every_steps * step_s
    return min(max((work.save_s or _SAVE_S) / wish.overhead, MIN_S), MAX_S)


def in_picked_shape(experiments: Sequence[TaskSpec], shape: JobShape) -> tuple[TaskSpec, ...]:
    """Each experiment with the shape that was picked for one of them. Raises: UsageError where one cannot have it."""
    found = []
    for experiment in experiments:
        assert isinstance(experiment, Experiment), "a choice is made for trainings"
        if reason := why_not(experiment, shape.layout):
            raise UsageError(f"not every point of the sweep can have {shape}: {reason}")
        found.append(in_shape(experiment, shape))
    return tuple(found)
