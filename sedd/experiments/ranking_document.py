"""A ranking for machines: one JSON document, or a CSV with a row for each run."""

import csv
import io
import json
import math
from typing import Any

from sedd.experiments.groups import METRICS, Group
from sedd.experiments.intervals import CONFIDENCE, Estimate, simultaneous
from sedd.experiments.rank import Ranking
from sedd.experiments.results import Result
from sedd.rundir.usage import Usage

VERSION = 1
"""Raised when a field is renamed, removed or changes its meaning; new fields do not raise it."""


def ranking_document(ranking: Ranking) -> dict[str, Any]:
    """What `sedd compare --json` prints."""
    return {
        "version": VERSION,
        "metric": ranking.metric,
        "unit": METRICS[ranking.metric].unit,
        "confidence": CONFIDENCE,
        "confidence_of_each_for_all": simultaneous(len(ranking.differences)),
        "reference": ranking.reference,
        "not_distinguishable": [group.number for group in ranking.confused],
        "remarks": list(ranking.remarks),
        "groups": [_group(ranking, group) for group in ranking.groups],
    }


def best_document(ranking: Ranking) -> dict[str, Any]:
    """What `sedd status SWEEP --json` says of the best point."""
    best = ranking.groups[0]
    return {
        "ids": [result.run.id for result in best.results],
        "metric": ranking.metric,
        "estimate": _estimate(best.estimate),
        "sd": _number(best.sd),
        "n": best.n,
        "is_sure": ranking.is_sure and not ranking.left_out,
        "not_distinguishable": [[result.run.id for result in group.results] for group in ranking.confused],
    }


def _group(ranking: Ranking, group: Group) -> dict[str, Any]:
    difference = ranking.differences.get(group.number)
    return {
        "number": group.number,
        "settings": {key: values[group.number - 1] for key, values in ranking.fields.items()},
        "n": group.n,
        "estimate": _estimate(group.estimate),
        "sd": _number(group.sd),
        "difference": None
        if difference is None
        else _estimate(difference.estimate)
        | {"method": str(difference.method), "distinguishable": difference.is_distinguishable},
        "runs": [_run(result) for result in group.results],
    }


def _run(result: Result) -> dict[str, Any]:
    return {
        "name": result.run.name,
        "id": result.run.id,
        "path": str(result.run.path),
        "point": dict(result.point),
        "seed": result.settings.get("seed"),
        "ended": result.ended or None,
        "step": result.step,
        "steps": result.steps,
        "metrics": {name: _estimate(metric.read(result)) for name, metric in METRICS.items()},
        "usage": usage_document(result.usage),
        "curve": [
            {"step": p.step, "residues": p.residues, "hours": round(p.hours, 6), "bound": _number(p.bound)}
            for p in result.curve
        ],
    }


def usage_document(usage: Usage) -> dict[str, Any]:
    """Hours, kWh and kg of what was used; null is not known."""
    return {
        "gpu_hours": round(usage.gpu_hours, 6),
        "hours": round(usage.run_s / 3600, 6),
        "queued_hours": round(usage.queued_s / 3600, 6),
        "restart_hours": round(usage.restart_s / 3600, 6),
        "repeat_hours": round(usage.repeat_s / 3600, 6),
        "lost_gpu_hours": round(usage.lost_gpu_s / 3600, 6),
        "lost_gpu_hours_to": {cause or "running": round(s / 3600, 6) for cause, s in usage.lost_to.items()},
        "kwh": _number(usage.kwh),
        "kwh_measured_gpu_hours": round(usage.measured_gpu_s / 3600, 6),
        "kwh_source": ", ".join(sorted(usage.sources)) or None,
        "co2_kg": _number(usage.co2_kg),
    }


def ranking_csv(ranking: Ranking) -> str:
    """A row for each run, in the order of the ranking."""
    header = [
        *("number", "name", "id", "seed", "step"),
        *METRICS,
        *("mean", "sd", "n", "difference", "low", "high", "distinguishable", "method"),
        *ranking.fields,
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    for group in ranking.groups:
        for result in group.results:
            writer.writerow([_cell(value) for value in _csv_row(ranking, group, result)])
    return text.getvalue()


def _csv_row(ranking: Ranking, group: Group, result: Result) -> list[Any]:
    values = [metric.read(result) for metric in METRICS.values()]
    difference = ranking.differences.get(group.number)
    low, high = (difference.interval if difference else None) or (None, None)
    return [
        *(group.number, result.run.name, result.run.id, result.settings.get("seed"), result.step),
        *(value.value if value else None for value in values),
        *(group.estimate.value if group.estimate else None, group.sd, group.n),
        *(difference.estimate.value if difference else None, low, high),
        *(difference.is_distinguishable if difference else None, difference.method if difference else None),
        *(column[group.number - 1] for column in ranking.fields.values()),
    ]


def _cell(value: Any) -> Any:
    return "" if value is None else json.dumps(value) if isinstance(value, list | dict | bool) else value


def _estimate(estimate: Estimate | None) -> dict[str, Any]:
    if estimate is None:
        return {"value": None, "standard_error": None, "interval": None}
    interval = estimate.interval()
    return {
        "value": _number(estimate.value),
        "standard_error": _number(estimate.error),
        "interval": None if interval is None else list(interval),
    }


def _number(value: float | None) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if value is not None and math.isfinite(value) else None
