"""Render the snapshot as a stable JSON document; README.md describes its fields."""

import dataclasses
import datetime as dt
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sedd.monitor.decide.inspection import known_lineage
from sedd.monitor.decide.snapshot import RunView, Snapshot
from sedd.monitor.decide.timeline import AttemptRow, timeline
from sedd.monitor.read.facts import RunFacts

VERSION = 1
"""Raised when a field is renamed, removed or changes its meaning; new fields do not raise it."""


_FIELDS = (
    "name id path state is_final is_success why executor job_id nodes sweep point made submitted ended heartbeat "
    "step steps unit loss validation_bound validation_perplexity residues_per_s eta_s gpus gpu gpu_memory_bytes "
    "gpu_utilization attempts causes checkpoint local_copy at_risk slow ranks ettr result error unreadable damaged"
).split()
"""Of a run, in this order; those that `run_document` does not make are the view's own."""
_ATTEMPT_FIELDS = "attempt started host queued_s in_job ran_s first_step last_step lost_steps cause".split()


def status_document(snapshot: Snapshot, views: Sequence[RunView]) -> dict[str, Any]:
    """What `sedd status --json` prints."""
    queue = snapshot.queue
    slurm = {"asked": queue.asked, "down_since": queue.down_since, "error": queue.error}
    runs = [run_document(view) for view in views]
    return {"version": VERSION, "taken": _json(snapshot.taken), "slurm": _json(slurm), "runs": runs}


def run_document(view: RunView) -> dict[str, Any]:
    """One run."""
    made = {
        "path": str(view.run.path),
        "state": view.state.replace(" ", "_"),
        "is_final": view.state.is_final,
        "is_success": view.state.is_success,
        "heartbeat": view.heartbeat_t,
        "checkpoint": {"step": view.checkpoint_step, "t": view.checkpoint_t},
        "local_copy": {"step": view.local_step, "t": view.local_t},
        "result": dataclasses.asdict(view.result) if view.result else None,
        "at_risk": {
            "steps": view.at_risk_steps,
            "seconds": view.at_risk_s,
            "restart": {"steps": view.restart_steps, "seconds": view.restart_s},
        },
    }
    return _document(view, made, _FIELDS)


def timeline_document(facts: RunFacts, view: RunView, *, now: dt.datetime) -> dict[str, Any]:
    """What `sedd status RUN --json` says of the run besides: its attempts one by one."""
    rows = [_attempt_document(row) for row in timeline(facts, view, now=now)]
    return {"timeline": rows, "lineage": known_lineage(facts)}


def _attempt_document(row: AttemptRow) -> dict[str, Any]:
    made = {"attempt": row.number, "ran_s": row.lasted_s, "lost_steps": row.lost}
    return _document(row, made, _ATTEMPT_FIELDS)


def _document(source: object, made: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: _json(made[name] if name in made else getattr(source, name)) for name in names}


def _json(value: Any) -> Any:
    """As JSON has it: times as text, and no NaN and no infinity."""
    match value:
        case dt.datetime():
            return value.astimezone(dt.UTC).isoformat(timespec="milliseconds")
        case float():
            return value if math.isfinite(value) else None
        case Mapping():
            return {str(key): _json(each) for key, each in value.items()}
        case tuple() | list():
            return [_json(each) for each in value]
        case Path():
            return str(value)
    return value
