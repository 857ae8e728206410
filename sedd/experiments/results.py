"""Read of a run what it is compared by: its settings, its validations over residues and GPU-hours, what it used."""

import datetime as dt
import json
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sedd.errors import SeddError
from sedd.experiments.intervals import Estimate, ratio_of
from sedd.rundir.attempts import gpus_in_foreground, is_cancelled, is_completed, is_stopped
from sedd.rundir.events import STAYS, Event, read_events
from sedd.rundir.layout import RunDir, read_manifest
from sedd.rundir.read_usage import read_usage
from sedd.rundir.usage import AttemptUse, Usage
from sedd.rundir.validation_rows import ValidationRow, read_validation_rows

NO_SETTINGS = ("name", "tracking")
"""Sections of a spec that change no number of a run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CurvePoint:
    """One validation.

    Attributes:
        hours: GPU-hours spent until then, repeats included; hours of running of a run without GPUs.
        bound: nats per residue.
    """

    step: int
    residues: float
    hours: float
    bound: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One run.

    Attributes:
        settings: the spec's fields by dotted key, without what changes no number.
        rows: validations in blocks; () of a run that kept none.
        evaluation: the bound of `sedd evaluate` as a job, where there is one; `evaluated`: of so many residues.
        ended: how the run ended; "" for one that has not, or that was started again since.
    """

    run: RunDir
    point: Mapping[str, Any]
    settings: Mapping[str, Any]
    gpus: int
    steps: int | None
    curve: tuple[CurvePoint, ...]
    rows: tuple[ValidationRow, ...]
    loss: float | None
    evaluation: Estimate | None
    usage: Usage
    ended: str
    evaluated: int | None = None

    @property
    def last(self) -> ValidationRow | None:
        """The last validation in blocks."""
        return self.rows[-1] if self.rows else None

    @property
    def validation(self) -> Estimate | None:
        """The last validation's bound, with its error over the blocks of the fixed set."""
        if not self.curve:
            return None
        if self.last is None or self.last.step != self.curve[-1].step:
            return Estimate(value=self.curve[-1].bound)
        return ratio_of(self.last.nats, self.last.residues)

    @property
    def step(self) -> int:
        return self.curve[-1].step if self.curve else 0

    def until(self, step: int) -> "Result":
        """The run with its validations up to a step alone."""
        return replace(
            self,
            curve=tuple(point for point in self.curve if point.step <= step),
            rows=tuple(row for row in self.rows if row.step <= step),
        )


def read_result(run: RunDir, *, with_spec: bool = True) -> Result:
    """What there is of a run so far. Without its spec the sweep's point stands for its settings: quick.

    Raises:
        SeddError: the folder cannot be read.
    """
    manifest, events, use = read_manifest(run), read_events(run.events), read_usage(run)
    point, own_gpus = manifest.get("point") or {}, gpus_in_foreground(events)
    rows, (evaluation, evaluated) = _metric_rows(run), _evaluation(run)
    return Result(
        run=run,
        point=point,
        settings=_settings(run) if with_spec else dict(point),
        gpus=int(manifest.get("gpus") or 0) if own_gpus is None else own_gpus,
        steps=manifest.get("steps"),
        curve=_curve(rows, _spent(events, use.attempts)),
        rows=read_validation_rows(run.validations),
        loss=rows[-1].get("loss") if rows else None,
        evaluation=evaluation,
        evaluated=evaluated,
        usage=use.within(),
        ended=_last_word(events),
    )


def _last_word(events: Sequence[Event]) -> str:
    words = {"completed": is_completed, "stopped": is_stopped, "cancelled": is_cancelled}
    moves = [event.event for event in events if event.event not in STAYS]
    gave_up = "gave_up" if moves[-1:] == ["gave_up"] else ""
    return next((word for word, is_so in words.items() if is_so(events)), gave_up)


def with_evaluations(results: Sequence[Result]) -> list[Result]:
    """Trainings with what the evaluations among `results` found of them, which then no longer stand for themselves.

    An evaluation of a network that is not there, or one of several of the same network, stays as it is.
    """
    found: dict[str, list[Result]] = {}
    for result in results:
        if result.evaluation is not None and (network := evaluated_network(result)):
            found.setdefault(network, []).append(result)
    single = {network: each[0] for network, each in found.items() if len(each) == 1}
    attached = {path: result for result in results if (path := os.path.realpath(result.run.path)) in single}
    gone = {id(single[path]) for path in attached}
    return [
        replace(result, evaluation=single[path].evaluation, evaluated=single[path].evaluated)
        if (path := os.path.realpath(result.run.path)) in attached
        else result
        for result in results
        if id(result) not in gone
    ]


def evaluated_network(result: Result) -> str | None:
    """The real path of the network that an evaluation took; None of another task."""
    if result.settings.get("task") != "evaluate":
        return None
    return os.path.realpath(str(result.settings.get("evaluate.network")))


def flattened(section: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in section.items():
        if isinstance(value, Mapping):
            flat |= flattened(value, f"{above}{key}.")
        else:
            flat[f"{above}{key}"] = value
    return flat


def _settings(run: RunDir) -> dict[str, Any]:
    """The resolved spec with today's defaults, which a run of older code did not write out.

    `sedd train` writes how many processes it has where others leave that to the GPUs: both as the number.
    """
    from sedd.spec.load import load_resolved
    from sedd.yaml import load_document

    try:
        task = load_resolved(run.spec)
        spec = task.model_dump(mode="json")
        spec["resources"]["processes_per_node"] = task.resources.ranks_per_node
    except SeddError:  # of a version that knew other fields: as it was written
        spec = load_document(run.spec).data
    return flattened({key: value for key, value in spec.items() if key not in NO_SETTINGS})


def _metric_rows(run: RunDir) -> list[dict[str, Any]]:
    """The rows with a validation, and the last one."""
    try:
        lines = run.metrics.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    wanted = [line for line in lines if b'"validation_bound"' in line]
    rows = [row for line in [*wanted, *lines[-2:]] if (row := _parse(line)) is not None]
    return sorted({row["step"]: row for row in rows}.values(), key=lambda row: row["step"])


def _parse(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and "step" in row else None


def _curve(rows: Iterable[Mapping[str, Any]], spent: Sequence[tuple[int, float]]) -> tuple[CurvePoint, ...]:
    return tuple(
        CurvePoint(
            step=int(row["step"]),
            residues=float(row.get("residues", 0)),
            hours=_at(spent, int(row["step"])),
            bound=float(row["validation_bound"]),
        )
        for row in rows
        if isinstance(row.get("validation_bound"), int | float)
    )


def _spent(events: Sequence[Event], attempts: Sequence[AttemptUse]) -> list[tuple[int, float]]:
    """(step, hours spent when it was reached for good), at the starts and saves that events tell of."""
    known: list[tuple[int, float]] = [(0, 0.0)]
    uses = {use.number: use for use in attempts}
    before = 0.0
    for event in events:
        use = uses.get(event.attempt)
        if use is None:
            continue
        if event.event == "attempt_started":
            before = sum(_hours(u, u.end) for u in attempts if u.number < use.number)
        elif event.event in ("resumed", "checkpoint"):
            step = int(event.get("step", 0))
            if event.event == "resumed":
                # What lies beyond it is taken again.
                known = [point for point in known if point[0] <= step]
            known.append((step, before + _hours(use, event.t)))
    return known


def _hours(use: AttemptUse, until: dt.datetime) -> float:
    """GPU-hours of an attempt until then; hours where it has no GPU."""
    return max(0.0, (until - use.start).total_seconds()) / 3600 * max(1, use.gpus)


def _at(known: Sequence[tuple[int, float]], step: int) -> float:
    """Linear between the known steps; beyond the last at the pace that led there."""
    if len(known) < 2:
        return 0.0
    following = next((k for k in range(1, len(known)) if known[k][0] >= step), len(known) - 1)
    (first, low), (last, high) = known[following - 1], known[following]
    return low + (high - low) * (step - first) / (last - first) if last > first else high


def _evaluation(run: RunDir) -> tuple[Estimate | None, int | None]:
    """The bound, and of how many residues."""
    try:
        found = json.loads(run.evaluation.read_bytes())
        bound = Estimate(value=float(found["nats_per_residue"]), error=float(found["standard_error"]))
        return bound, found.get("residues")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, None
