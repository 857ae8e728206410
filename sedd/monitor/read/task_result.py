"""Read what a completed run of another task than training came to: its file, and the few numbers that say most."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sedd.rundir.layout import RunDir


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskResult:
    """The result of `task: evaluate`, `score`, `sample`, `embed` or `command`.

    Attributes:
        nats_per_residue, standard_error, perplexity: of an evaluation: the bound and exp of it.
        spearman: of a score job with a measured column: way of scoring → rank correlation with what was measured.
    """

    file: Path
    nats_per_residue: float | None = None
    standard_error: float | None = None
    perplexity: float | None = None
    spearman: Mapping[str, float] = field(default_factory=dict)


FILES: Mapping[str, Sequence[str]] = {
    "evaluate": ("evaluation.json",),
    "score": ("scores.csv", "scores.parquet"),
    "sample": ("samples/samples.fasta",),
    "embed": ("embeddings.safetensors", "embeddings.npz", "embeddings.parquet"),
    "command": ("command.csv",),
}
"""By task: where its result lies in the run folder, whichever of them was asked for."""


def find_result(run: RunDir, task: str) -> TaskResult | None:
    """What the run came to; None for a task without a result in the run folder, or where it is not there (any more).

    Numbers that cannot be read are left out.
    """
    files = [run.path / name for name in FILES.get(task, ())]
    file = next((path for path in files if path.is_file()), None)
    if file is None:
        return None
    if task == "evaluate":
        found = _document(file)
        return TaskResult(
            file=file,
            nats_per_residue=_number(found.get("nats_per_residue")),
            standard_error=_number(found.get("standard_error")),
            perplexity=_number(found.get("perplexity")),
        )
    if task == "score":
        return TaskResult(file=file, spearman=_spearman(_document(run.path / "scores.json")))
    return TaskResult(file=file)


def _spearman(document: Mapping[str, Any]) -> dict[str, float]:
    methods = document.get("methods")
    rows = methods.items() if isinstance(methods, Mapping) else ()
    known = {
        name: _number((row.get("spearman") or {}).get("rho"))
        for name, row in rows
        if isinstance(row, Mapping)
    }
    return {name: rho for name, rho in known.items() if rho is not None}


def _document(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None
