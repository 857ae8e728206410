"""Group the runs of a sweep by what preflight could judge differently."""

import json
from dataclasses import dataclass
from typing import Any

from sedd.spec.load import Request
from sedd.spec.sweep import Point
from sedd.spec.task import TaskSpec
from sedd.yaml_text import assignments

# No check looks at these of one run; first_batch, noise_reach and warm_up take them from the whole request.
_WITHOUT_EFFECT: dict[str, Any] = {
    "seed": True,
    "diffusion": True,
    "training": {
        "learning_rate",
        "warmup_steps",
        "schedule",
        "weight_decay",
        "beta1",
        "beta2",
        "clip_norm",
        "ema_decay",
    },
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SweepGroup:
    """Runs that preflight would judge alike."""

    experiment: TaskSpec
    """The first of them."""
    point: str
    """What sets the first of them apart: `model.hidden=768`; empty without a sweep."""


def sweep_groups(request: Request) -> list[SweepGroup]:
    """Return one group for all runs that differ in nothing that a check reads, in the order of the sweep."""
    found: dict[str, SweepGroup] = {}
    for experiment, point in zip(request.experiments, request.points, strict=True):
        found.setdefault(key_of(experiment), SweepGroup(experiment=experiment, point=_words(point)))
    return list(found.values())


def key_of(experiment: TaskSpec) -> str:
    """All of a spec that a check reads: equal of runs that preflight would judge alike."""
    return json.dumps(experiment.model_dump(mode="json", exclude=_WITHOUT_EFFECT))


def _words(point: Point) -> str:
    """The overrides that a check may look at."""
    return assignments({key: value for key, value in point.items() if not _is_without_effect(key)})


def _is_without_effect(key: str) -> bool:
    section, *rest = key.split(".")
    without = _WITHOUT_EFFECT.get(section, ())
    return without is True or bool(rest and rest[0] in without)
