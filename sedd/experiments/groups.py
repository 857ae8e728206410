"""Runs that differ in their seed alone, with an estimate of the metric that they are ranked by."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from sedd.experiments.intervals import Estimate, mean_of, standard_deviation
from sedd.experiments.results import CurvePoint, Result

SEED = "seed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What runs are ranked by; the lowest is the best."""

    title: str
    unit: str
    read: Callable[[Result], Estimate | None]


def _exact(value: float | None) -> Estimate | None:
    return None if value is None else Estimate(value=value)


def _best_validation(result: Result) -> Estimate | None:
    bounds = [point.bound for point in result.curve if math.isfinite(point.bound)]
    return Estimate(value=min(bounds)) if bounds else None


METRICS: dict[str, Metric] = {
    "validation": Metric(title="validation", unit="nats", read=lambda r: r.validation),
    "best": Metric(title="best validation", unit="nats", read=_best_validation),
    "evaluation": Metric(title="evaluation", unit="nats", read=lambda r: r.evaluation),
    "loss": Metric(title="loss", unit="nats", read=lambda r: _exact(r.loss)),
    "gpu-hours": Metric(title="GPU-hours", unit="h", read=lambda r: _exact(r.usage.gpu_hours)),
    "kwh": Metric(title="energy", unit="kWh", read=lambda r: _exact(r.usage.kwh)),
}
"""By their names on the command line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Runs that differ in their seed alone.

    Attributes:
        number: its place in the ranking, from 1.
        estimate: of one run with its own error, of several the mean over seeds with that of the mean; where a halving
            sweep has stopped one of them, that at the step of its rung.
        sd: standard deviation over seeds; None of a single run.
    """

    number: int
    results: tuple[Result, ...]
    estimate: Estimate | None
    sd: float | None

    @property
    def n(self) -> int:
        return len(self.results)

    @property
    def is_over(self) -> bool:
        """Whether all its runs have completed, or were stopped by the rule of their halving sweep."""
        return all(result.ended in ("completed", "stopped") for result in self.results)

    @property
    def stopped_at(self) -> int | None:
        """The step of the rung at which a halving sweep has stopped one of its runs, the first; None: none of them."""
        return min((result.step for result in self.results if result.ended == "stopped"), default=None)

    @property
    def was_stopped(self) -> bool:
        """Whether a halving sweep has done without one of its runs: it stands behind those that went on."""
        return self.stopped_at is not None

    def until(self, step: int, metric: str) -> "Group":
        """The group with the validations up to a step alone, and its estimate of a metric by these."""
        results = [result.until(step) for result in self.results]
        return replace(_group(results, METRICS[metric].read), number=self.number)


def join_seeds(results: Sequence[Result], metric: str) -> list[Group]:
    """The groups of runs, in no order, with their estimates of a metric."""
    groups = [_group(members, METRICS[metric].read) for members in _by_settings(results)]
    return [_at_one_step(group, metric) for group in groups]


def _at_one_step(group: Group, metric: str) -> Group:
    """The estimate at the rung where one of its runs was stopped: of those that went on an earlier validation."""
    if group.stopped_at is None:
        return group
    there = group.until(group.stopped_at, metric)
    return replace(group, estimate=there.estimate, sd=there.sd)


def _by_settings(results: Sequence[Result]) -> list[list[Result]]:
    groups: dict[str, list[Result]] = {}
    for result in results:
        same = {key: value for key, value in result.settings.items() if key != SEED}
        groups.setdefault(json.dumps(same, sort_keys=True, default=str), []).append(result)
    return [split for members in groups.values() for split in _with_different_seeds(members)]


def _with_different_seeds(members: Sequence[Result]) -> list[list[Result]]:
    """Runs of one seed and the same settings are the same run twice: each stands for itself."""
    seeds = [result.settings.get(SEED) for result in members]
    return [list(members)] if len(set(seeds)) == len(seeds) else [[result] for result in members]


def _group(members: Sequence[Result], read: Callable[[Result], Estimate | None]) -> Group:
    values = [read(result) for result in members]
    known = [value for value in values if value is not None and math.isfinite(value.value)]
    if len(known) < len(values) or not known:
        estimate, sd = None, None
    elif len(known) == 1:
        estimate, sd = known[0], None
    else:
        numbers = [value.value for value in known]
        estimate, sd = mean_of(numbers), standard_deviation(numbers)
    return Group(number=0, results=tuple(members), estimate=estimate, sd=sd)


def mean_curve(group: Group) -> tuple[CurvePoint, ...]:
    """The mean of the runs' curves at the steps at which all of them were validated."""
    curves = [{point.step: point for point in result.curve} for result in group.results]
    shared = sorted(set.intersection(*(set(curve) for curve in curves)))

    def mean(step: int, name: str) -> float:
        return math.fsum(getattr(curve[step], name) for curve in curves) / len(curves)

    means = ("residues", "hours", "bound")
    return tuple(CurvePoint(step=step, **{name: mean(step, name) for name in means}) for step in shared)
