"""Render the snapshot as a stable JSON document; README.md describes its fields."""

import datetime as dt
import math
from collections.abc import Sequence
from typing import Any

from sedd.monitor.decide.inspection import AttemptRow, known_lineage, timeline
from sedd.monitor.decide.snapshot import RunView, Snapshot
from sedd.monitor.read.facts import RunFacts

VERSION = 1
"""Raised when a field is renamed, removed or changes its meaning; new fields do not raise it."""


def status_document(snapshot: Snapshot, views: Sequence[RunView]) -> dict[str, Any]:
    """What `sedd status --json` prints."""
    queue = snapshot.queue
    return {
        "version": VERSION,
        "taken": _moment(snapshot.taken),
        "slurm": {
            "asked": _moment(queue.asked),
            "down_since": _moment(queue.down_since),
            "error": queue.error,
        },
        "runs": [run_document(view) for view in views],
    }


def run_document(view: RunView) -> dict[str, Any]:
    """One run."""
    return {
        "name": view.name,
        "id": view.id,
        "path": str(view.run.path),
        "state": view.state.value.replace(" ", "_"),
        "is_final": view.state.is_final,
        "is_success": view.state.is_success,
        "why": view.why,
        "executor": view.executor,
        "job_id": view.job_id,
        "nodes": view.nodes,
        "sweep": view.sweep,
        "point": dict(view.point),
        "made": _moment(view.made),
        "submitted": _moment(view.submitted),
        "ended": _moment(view.ended),
        "heartbeat": _moment(view.heartbeat_t),
        "step": view.step,
        "steps": view.steps,
        "unit": view.unit,
        "loss": _number(view.loss),
        "validation_bound": _number(view.validation_bound),
        "validation_perplexity": _number(view.validation_perplexity),
        "residues_per_s": _number(view.residues_per_s),
        "eta_s": _number(view.eta_s),
        "gpus": view.gpus,
        "gpu": view.gpu,
        "gpu_memory_bytes": view.gpu_memory_bytes,
        "gpu_utilization": _number(view.gpu_utilization),
        "attempts": view.attempts,
        "causes": {cause.value: count for cause, count in view.causes.items()},
        "checkpoint": {"step": view.checkpoint_step, "t": _moment(view.checkpoint_t)},
        "at_risk": {"steps": view.at_risk_steps, "seconds": _number(view.at_risk_s)},
        "ettr": _number(view.ettr),
        "error": view.error,
        "unreadable": list(view.unreadable),
        "damaged": list(view.damaged),
    }


def timeline_document(facts: RunFacts, view: RunView, *, now: dt.datetime) -> dict[str, Any]:
    """What `sedd status RUN --json` says of the run besides: its attempts one by one."""
    rows = [_attempt_document(row) for row in timeline(facts, view, now=now)]
    return {"timeline": rows, "lineage": known_lineage(facts)}


def _attempt_document(row: AttemptRow) -> dict[str, Any]:
    return {
        "attempt": row.number,
        "started": _moment(row.started),
        "host": row.host,
        "queued_s": _number(row.queued_s),
        "ran_s": _number(row.lasted_s),
        "first_step": row.first_step,
        "last_step": row.last_step,
        "lost_steps": row.lost,
        "cause": row.cause.value if row.cause else None,
    }


def _moment(moment: dt.datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(dt.UTC).isoformat(timespec="milliseconds")


def _number(value: float | None) -> float | None:
    """JSON has no NaN and no infinity."""
    return value if value is not None and math.isfinite(value) else None
