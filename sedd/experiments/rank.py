"""Rank runs by a metric and say which of them can be told apart: pure."""

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from sedd.errors import UsageError
from sedd.experiments.intervals import (
    CONFIDENCE,
    Estimate,
    difference_of,
    mean_of,
    ratio_of,
    simultaneous,
    standard_deviation,
)
from sedd.experiments.results import CurvePoint, Result

SEED = "seed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What runs are ranked by; the lowest is the best."""

    title: str
    unit: str
    read: Callable[[Result], Estimate | None]


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


class Method(StrEnum):
    """How the error of a difference was found."""

    SEEDS = "seeds"
    """Welch's interval over seeds: it speaks of the settings."""
    PAIRED = "paired"
    """Over the blocks of one validation set: it speaks of these networks."""
    UNPAIRED = "unpaired"
    """From both bounds' own errors: other proteins, or an evaluation of each."""
    NONE = "none"
    """Nothing tells the error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Runs that differ in their seed alone.

    Attributes:
        number: its place in the ranking, from 1.
        estimate: of one run with its own error, of several the mean over seeds with that of the mean.
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
    def was_stopped(self) -> bool:
        """Whether a halving sweep has done without one of its runs: it stands behind those that went on."""
        return any(result.ended == "stopped" for result in self.results)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A group less the reference: above 0 it is worse."""

    estimate: Estimate
    method: Method

    @property
    def interval(self) -> tuple[float, float] | None:
        return self.estimate.interval()

    @property
    def is_distinguishable(self) -> bool | None:
        """By the 95 % interval of this difference alone; None where there is no interval."""
        return self.estimate.is_distinguishable()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Groups, the best first, and how each differs from the reference.

    Attributes:
        fields: dotted key to each group's value, of the settings that are not the same in all; the seed is none.
        reference: number of the group that the others are compared with.
        differences: by group number; the reference has none, nor one without the metric.
        remarks: what a reader must know before believing it.
    """

    metric: str
    groups: tuple[Group, ...]
    fields: Mapping[str, tuple[Any, ...]]
    reference: int
    differences: Mapping[int, Difference]
    remarks: tuple[str, ...]

    @property
    def confused(self) -> tuple[Group, ...]:
        """Groups not distinguishable from the reference by intervals that hold together, or without an interval."""
        confidence = simultaneous(len(self.differences), CONFIDENCE)
        unlike = {
            number
            for number, difference in self.differences.items()
            if difference.estimate.is_distinguishable(confidence)
        }
        return tuple(g for g in self.groups if g.number in self.differences and g.number not in unlike)


def rank(results: Sequence[Result], *, metric: str = "validation", against: Result | None = None) -> Ranking:
    """Join seeds, sort by the metric, and compare all with the best, or with the group of `against`.

    Raises:
        UsageError: none of the runs has the metric.
    """
    read = METRICS[metric].read
    joined = [_group(members, read) for members in _by_settings(results)]
    if not any(group.estimate for group in joined):
        raise UsageError(f"none of the {len(results)} runs has {_A[metric]} yet", hint=_HINTS.get(metric))
    ordered = sorted(joined, key=_place)
    groups = [replace(group, number=number) for number, group in enumerate(ordered, 1)]
    reference = next((g for g in groups if against is not None and against in g.results), groups[0])
    if reference.estimate is None:
        raise UsageError(f"the run to compare with, {reference.results[0].run.id}, has {_A[metric]} not yet")
    differences = {
        g.number: compare(g, reference, metric)
        for g in groups
        if g.number != reference.number and g.estimate is not None
    }
    return Ranking(
        metric=metric,
        groups=tuple(groups),
        fields=_fields(groups),
        reference=reference.number,
        differences=differences,
        remarks=_remarks(groups, differences, metric),
    )


_A = {
    "validation": "a validation",
    "best": "a validation",
    "evaluation": "an evaluation",
    "loss": "a logged step",
    "gpu-hours": "started",
    "kwh": "a measured energy",
}
_HINTS = {"evaluation": "task: evaluate leaves one in the run folder", "kwh": "a GPU's driver must tell it"}


def _place(group: Group) -> tuple[int, float]:
    """Sorts groups: those that a halving sweep has stopped come last, the earlier they were stopped the later."""
    stopped_at = min((r.step for r in group.results if r.ended == "stopped"), default=0)
    return (
        -stopped_at if group.was_stopped else -sys.maxsize,
        group.estimate.value if group.estimate else math.inf,
    )


def compare(one: Group, other: Group, metric: str) -> Difference:
    """One group less another, with the narrowest interval that there is ground for."""
    if one.estimate is None or other.estimate is None:
        raise ValueError("both groups need the metric")
    if one.n > 1 and other.n > 1:
        return Difference(estimate=difference_of(one.estimate, other.estimate), method=Method.SEEDS)
    plain = Estimate(value=one.estimate.value - other.estimate.value)
    if metric == "validation":
        first, second = _blocks(one), _blocks(other)
        if first is not None and second is not None:
            if first.proteins == second.proteins:
                nats = [a - b for a, b in zip(first.nats, second.nats, strict=True)]
                return Difference(estimate=ratio_of(nats, first.residues), method=Method.PAIRED)
            bounds = [ratio_of(blocks.nats, blocks.residues) for blocks in (first, second)]
            return Difference(estimate=difference_of(*bounds), method=Method.UNPAIRED)
    if one.n == other.n == 1 and one.estimate.error is not None and other.estimate.error is not None:
        return Difference(estimate=difference_of(one.estimate, other.estimate), method=Method.UNPAIRED)
    return Difference(estimate=plain, method=Method.NONE)


def mean_curve(group: Group) -> tuple[CurvePoint, ...]:
    """The mean of the runs' curves at the steps at which all of them were validated."""
    curves = [{point.step: point for point in result.curve} for result in group.results]
    shared = sorted(set.intersection(*(set(curve) for curve in curves)))

    def mean(step: int, name: str) -> float:
        return math.fsum(getattr(curve[step], name) for curve in curves) / len(curves)

    means = ("residues", "hours", "bound")
    return tuple(CurvePoint(step=step, **{name: mean(step, name) for name in means}) for step in shared)


def _exact(value: float | None) -> Estimate | None:
    return None if value is None else Estimate(value=value)


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


@dataclass(frozen=True, slots=True)
class _Blocks:
    """A validation by blocks; of several seeds the mean of their nats."""

    proteins: str
    nats: tuple[float, ...]
    residues: tuple[int, ...]


def _blocks(group: Group) -> _Blocks | None:
    """The last validation by blocks; None where a run has none, or another set than the others."""
    rows = [r.last for r in group.results if r.last is not None and r.last.step == r.step]
    if len(rows) < group.n or len({row.proteins for row in rows}) != 1:
        return None
    nats = [math.fsum(values) / len(rows) for values in zip(*(row.nats for row in rows), strict=True)]
    return _Blocks(rows[0].proteins, tuple(nats), rows[0].residues)


def _fields(groups: Sequence[Group]) -> dict[str, tuple[Any, ...]]:
    """Settings that are not the same in all groups, and each group's value; None where it has no such field."""
    keys = {key: None for group in groups for key in group.results[0].settings if key != SEED}
    values = {key: tuple(group.results[0].settings.get(key) for group in groups) for key in keys}
    return {key: row for key, row in values.items() if any(value != row[0] for value in row)}


def _remarks(groups: Sequence[Group], differences: Mapping[int, Difference], metric: str) -> tuple[str, ...]:
    methods = {difference.method for difference in differences.values()}
    remarks = []
    if missing := [f"#{g.number}" for g in groups if g.estimate is None]:
        remarks.append(f"{', '.join(missing)}: {_A[metric]} is missing, of one of the seeds at least")
    open_ = [f"#{g.number}" for g in groups if not g.is_over]
    if open_:
        remarks.append(f"not completed: {', '.join(open_)}")
    if stopped := [f"#{g.number}" for g in groups if g.was_stopped]:
        shown = ", ".join(stopped) if len(stopped) < 5 else f"{stopped[0]} to {stopped[-1]}"
        remarks.append(f"stopped by rule, each at the rung where it was: {shown}")
    steps = {r.step for group in groups for r in group.results if r.curve and r.ended != "stopped"}
    if metric == "validation" and len(steps) > 1:
        remarks.append(f"last validated at different steps, from {min(steps):,} to {max(steps):,}")
    if metric == "validation" and Method.UNPAIRED in methods:
        remarks.append(
            "validation sets differ: such runs cannot be paired, their intervals are wider, and of sets from different "
            "data a part of the difference is the data's. On the same proteins: "
            "sedd evaluate RUN --fasta FILE --against OTHER"
        )
    if Method.NONE in methods and metric in ("validation", "best", "evaluation", "loss"):
        remarks.append(_NO_INTERVAL[metric])
    if Method.PAIRED in methods:
        remarks.append(
            "paired differences speak of these networks; what another seed would change, only seeds tell"
        )
    return tuple(remarks)


_NO_INTERVAL = {
    "validation": "no interval where a run's validations were not kept in blocks (an older version), or are one block",
    "best": "no interval for the lowest of several validations without seeds",
    "evaluation": "no interval between a single evaluation and several seeds",
    "loss": "no interval for training losses without seeds",
}
