"""How long trainings take in the shapes of their specs, once their jobs run: what a plan needs to know of them."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sedd.cluster.profile import SlurmProfile
from sedd.soonest.earlier_runs import Earlier, cpu_layout, find_earlier, foreseen_speed, work_left
from sedd.soonest.forecast import forecast, usable
from sedd.soonest.shapes import JobShape, own_shape
from sedd.spec.experiment import Experiment


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingHours:
    """A training in the shape of its spec, without waits in the queue.

    Attributes:
        shape: of one on CPUs processes in place of GPUs.
        seconds: over all attempts, with their starts; infinite where none gets to train.
        usable_s: of an attempt's time limit, in which it trains.
        is_measured: by earlier runs of the same network on the same type of card.
        source: where its speed is from, in words.
    """

    shape: JobShape
    seconds: float
    attempts: int
    usable_s: float
    is_measured: bool
    source: str


def foresee_trainings(
    experiments: Sequence[Experiment], profile: SlurmProfile, runs: Path, *, patience_s: float
) -> list[TrainingHours | None]:
    """Of each training; None where nothing is known: on CPUs and in fp32, unless measured.

    Looks at earlier runs below `runs` for `patience_s` at most.
    """
    until, known = time.monotonic() + patience_s, dict[str, Earlier]()
    found: list[TrainingHours | None] = []
    for experiment in experiments:
        network = f"{experiment.model!r} {experiment.data.max_length} {_cpus(experiment)}"
        if network not in known:
            left_s = until - time.monotonic()
            known[network] = find_earlier(experiment, profile, runs, patience_s=left_s)
        found.append(_foresee(experiment, profile, known.get(network, Earlier())))
    return found


def _cpus(experiment: Experiment) -> str:
    """What the speed without GPUs depends on."""
    asked = experiment.resources
    return "" if asked.gpus_per_node else f"{cpu_layout(experiment)} {asked.cpus_per_process}"


def _foresee(experiment: Experiment, profile: SlurmProfile, earlier: Earlier) -> TrainingHours | None:
    is_on_gpus = bool(experiment.resources.gpus_per_node)
    has_estimate = is_on_gpus and experiment.training.precision != "fp32"  # it is of half precision
    if not (earlier.measured or has_estimate):
        return None
    speed = foreseen_speed(experiment, earlier)
    work = work_left(experiment, experiment.training.steps, profile, earlier)
    shape = own_shape(experiment, profile)
    if not is_on_gpus:
        shape = replace(shape, layout=cpu_layout(experiment))
    found = forecast(shape, work, speed, wait_s=0, waits_again_s=0)
    return TrainingHours(
        shape=shape,
        seconds=found.training_s + found.attempts * work.start_s if found.refusal is None else math.inf,
        attempts=found.attempts,
        usable_s=usable(shape.walltime_s, work),
        is_measured=bool(earlier.measured),
        source=speed.source,
    )
