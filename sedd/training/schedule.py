"""The learning rate as a function of the step."""

import math
from collections.abc import Callable

from sedd.spec.training import TrainingSpec


def _constant(step: int, spec: TrainingSpec) -> float:
    return 1.0


def _cosine(step: int, spec: TrainingSpec) -> float:
    begin, end = spec.warmup_steps, spec.steps
    for rise in spec.rewarm:
        if step <= rise.from_step:
            end = rise.from_step
            break
        begin = rise.from_step + rise.steps
        if step <= begin:
            return 0.1 + 0.9 * (step - rise.from_step) / rise.steps
    progress = (step - begin) / max(1, end - begin)
    return 0.1 + 0.45 * (1 + math.cos(math.pi * min(1.0, progress)))


def _inverse_sqrt(step: int, spec: TrainingSpec) -> float:
    return math.sqrt(max(1, spec.warmup_steps) / max(1, step))


SCHEDULES: dict[str, Callable[[int, TrainingSpec], float]] = {
    "constant": _constant,
    "cosine": _cosine,
    "inverse_sqrt": _inverse_sqrt,
}
"""Share of the peak after the warm-up."""


def learning_rate(step: int, spec: TrainingSpec) -> float:
    """Learning rate of the update that makes step `step` (counted from 1): linear warm-up, then the schedule."""
    if step <= spec.warmup_steps:
        return spec.learning_rate * step / spec.warmup_steps
    return spec.learning_rate * SCHEDULES[spec.schedule](step, spec)
