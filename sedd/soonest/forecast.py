"""When a run would end in a shape: its wait, its training, and a further wait for each requeue. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sedd.launch.resources import signal_lead_s
from sedd.soonest.shapes import JobShape
from sedd.soonest.speed import Speed

START_S = 60.0
"""From the start of a job to its first step, where no run has measured it: Python, node preflight, loading."""
PAUSE_S, PAUSE_IN_PLACE_S = 10.0, 130.0
"""From an attempt to the next on an empty cluster: in a new job, and where the profile says `requeue: true`."""
ALIKE = 0.02
"""Ends that differ by less are the same; then fewer GPU hours decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What is left of a run, and what is known of its attempts.

    Attributes:
        residues_per_step: over all GPUs, whatever their number.
        save_s: the longest that a checkpoint took; None: not known.
    """

    steps: int
    residues_per_step: int
    start_s: float = START_S
    pause_s: float = PAUSE_S
    save_s: float | None = None

    def training_s(self, shape: JobShape, speed: Speed) -> float:
        """Seconds of training that are left."""
        return self.steps * speed.step_s(self.residues_per_step, shape.layout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is expected of a shape. Seconds are from now on.

    Attributes:
        refusal: why SLURM does not take it, or it comes to nothing; all else is then meaningless.
        wait_s: to the start of the first attempt.
        training_s: of training, over all attempts.
        attempts: how many time limits that takes.
        ends_s: to the end of the run.
        gpu_s: GPU-seconds of all attempts.
        efficiency: share of the GPUs' time that computes.
    """

    shape: JobShape
    refusal: str | None = None
    wait_s: float = 0.0
    training_s: float = 0.0
    attempts: int = 0
    ends_s: float = math.inf
    gpu_s: float = 0.0
    efficiency: float = 1.0


def forecast(shape: JobShape, work: Work, speed: Speed, *, wait_s: float, waits_again_s: float) -> Forecast:
    """When the run ends in this shape, if its job starts in `wait_s`, and that after a requeue in `waits_again_s`.

    An attempt trains from its start-up to the warning before its time limit; the last one as long as it needs.
    """
    training_s = work.training_s(shape, speed)
    usable_s = usable(shape.walltime_s, work)
    if usable_s <= 0:
        return Forecast(shape=shape, refusal="too short to train: start-up and saving take all of it")
    attempts = max(1, math.ceil(training_s / usable_s))
    running_s = attempts * work.start_s + training_s
    waiting_s = wait_s + (attempts - 1) * (waits_again_s + work.pause_s)
    return Forecast(
        shape=shape,
        wait_s=wait_s,
        training_s=training_s,
        attempts=attempts,
        ends_s=waiting_s + running_s,
        gpu_s=running_s * shape.layout.gpus,
        efficiency=speed.efficiency(work.residues_per_step, shape.layout),
    )


def refused(shape: JobShape, reason: str) -> Forecast:
    """A shape that SLURM does not take."""
    return Forecast(shape=shape, refusal=reason)


def usable(walltime_s: int, work: Work) -> float:
    """Seconds of a time limit in which an attempt trains."""
    return walltime_s - work.start_s - signal_lead_s(walltime_s, work.save_s)


def walltime_for(training_s: float, work: Work) -> float:
    """The time limit in which this many seconds of training fit, with a tenth to spare. The reverse of `usable`."""
    needed_s = work.start_s + 1.1 * training_s
    lead_s = signal_lead_s(10**9, work.save_s)
    return min(needed_s + lead_s, needed_s / 0.75)


def soonest(forecasts: Sequence[Forecast]) -> Forecast | None:
    """The one that ends first; of those that end as good as together the cheapest, and the shortest."""
    possible = [each for each in forecasts if each.refusal is None]
    if not possible:
        return None
    limit_s = (1 + ALIKE) * min(each.ends_s for each in possible)
    alike = [each for each in possible if each.ends_s <= limit_s]
    return min(alike, key=lambda each: (each.gpu_s, each.shape.walltime_s))
