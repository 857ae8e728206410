"""Rank runs by a metric and say which of them can be told apart: pure."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sedd.errors import UsageError
from sedd.experiments.differences import Difference, Method, compare
from sedd.experiments.groups import SEED, Group, join_seeds
from sedd.experiments.intervals import CONFIDENCE, simultaneous
from sedd.experiments.results import Result
from sedd.rundir.usage import measured_share


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

    @property
    def left_out(self) -> tuple[Group, ...]:
        """Groups that cannot be compared with the reference: one of the two lacks the metric, or that at one step."""
        return tuple(
            g for g in self.groups if g.number != self.reference and g.number not in self.differences
        )

    @property
    def is_sure(self) -> bool:
        """Whether all that can be compared with the reference are worse, by intervals that hold together."""
        confidence = simultaneous(len(self.differences), CONFIDENCE)
        intervals = [difference.estimate.interval(confidence) for difference in self.differences.values()]
        return bool(intervals) and all(each is not None and each[0] > 0 for each in intervals)


def rank(results: Sequence[Result], *, metric: str = "validation", against: Result | None = None) -> Ranking:
    """Join seeds, sort by the metric, and compare all with the best, or with the group of `against`.

    Raises:
        UsageError: none of the runs has the metric.
    """
    joined = join_seeds(results, metric)
    if not any(group.estimate for group in joined):
        raise UsageError(f"none of the {len(results)} runs has {_A[metric]} yet", hint=_HINTS.get(metric))
    ordered = sorted(joined, key=_place)
    groups = [replace(group, number=number) for number, group in enumerate(ordered, 1)]
    reference = next((g for g in groups if against is not None and against in g.results), groups[0])
    if reference.estimate is None:
        raise UsageError(
            f"the run to compare with, {reference.results[0].run.id}, does not have {_A[metric]} yet",
            hint="--against names another one",
        )
    others = [group for group in groups if group.number != reference.number]
    differences = {g.number: found for g in others if (found := compare(g, reference, metric)) is not None}
    return Ranking(
        metric=metric,
        groups=tuple(groups),
        fields=_fields(groups),
        reference=reference.number,
        differences=differences,
        remarks=_remarks(groups, differences, metric),
    )


OTHER_STEPS, OTHER_PROTEINS = "last validated at different steps", "runs with different validation sets"
"""How the remarks begin of validations that are not alike."""
_A = {
    "validation": "a validation",
    "best": "a validation",
    "evaluation": "an evaluation",
    "loss": "a logged step",
    "gpu-hours": "GPU-hours",
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
        there = "; differences from these are those at that rung" if metric in ("validation", "best") else ""
        remarks.append(f"stopped by rule, each at the rung where it was: {shown}{there}")
    steps = {r.step for group in groups for r in group.results if r.curve and r.ended != "stopped"}
    if metric == "validation" and len(steps) > 1:
        remarks.append(f"{OTHER_STEPS}, from {min(steps):,} to {max(steps):,}")
    if metric == "validation" and Method.UNPAIRED in methods:
        remarks.append(
            f"{OTHER_PROTEINS} cannot be paired: their intervals are wider, and part of a difference "
            "may come from the proteins. On the same proteins: "
            "sedd evaluate RUN --fasta FILE --against OTHER"
        )
    evaluated = {r.evaluated for g in groups for r in g.results if r.evaluation is not None} - {None}
    if metric == "evaluation" and len(evaluated) > 1:
        remarks.append("evaluations are of different proteins, and part of a difference may come from these")
    in_part = [f"#{g.number}" for g in groups if any(0 < measured_share(r.usage) < 0.995 for r in g.results)]
    if metric == "kwh" and in_part:
        remarks.append(
            f"the energy of a part of the GPU-hours was measured, and counts alone: {', '.join(in_part)}"
        )
    if Method.NONE in methods and metric in ("validation", "best", "evaluation", "loss"):
        remarks.append(_NO_INTERVAL[metric])
    if Method.PAIRED in methods:
        remarks.append(
            "paired differences compare these very networks; runs with several seeds show how much a seed matters"
        )
    return tuple(remarks)


_NO_INTERVAL = {
    "validation": "no interval where a run's validations were not kept in blocks (an older version), or are one block",
    "best": "no interval for the lowest of several validations without seeds",
    "evaluation": "no interval between a single evaluation and several seeds",
    "loss": "no interval for training losses without seeds",
}
