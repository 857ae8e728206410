"""Run folders as training leaves them, without the training."""

import datetime as dt
import json
import math
import random
from pathlib import Path
from typing import Any

from sedd.rundir.events import append_event
from sedd.rundir.layout import RunDir, create_run, write_manifest
from sedd.rundir.validation_rows import ValidationRow
from sedd.spec.load import dump_resolved
from tests.tiny import tiny_spec

START = dt.datetime(2026, 11, 1, 8, tzinfo=dt.UTC)
BLOCKS, RESIDUES = 32, 1000
PROTEINS = [random.Random(k).gauss(2.5, 0.3) for k in range(BLOCKS)]
"""Nats a residue that the proteins of each block take anyway."""


def make_run(
    root: Path,
    number: int,
    *,
    learning_rate: float = 1e-3,
    seed: int = 0,
    excess: float = 0.0,
    jitter: float = 0.002,
    proteins: str = "aaaa",
    sweep: str | None = None,
    keeps_blocks: bool = True,
    hours: float = 4.0,
    gpus: int = 4,
    steps: int = 1000,
    ended: str | None = "completed",
    profile: dict[str, Any] | None = None,
    resources: dict[str, Any] | None = None,
) -> RunDir:
    """A run whose last bound is the proteins' own and `excess`, each block with a `jitter` of its own."""
    spec = tiny_spec(Path("/data/x.store"), steps=steps, learning_rate=learning_rate)
    asked = spec.resources.model_copy(update=resources or {})
    spec = spec.model_copy(update={"seed": seed, "resources": asked})
    run = create_run(root, "tiny", f"20261101-0800{number:02d}-{number:08x}", dump_resolved(spec))
    point = {"training.learning_rate": learning_rate, "seed": seed} if sweep else {}
    write_manifest(
        run,
        {
            "format": 2, "name": "tiny", "id": run.id, "task": "train", "spec_hash": "0", "point": point,
            "sweep": sweep, "steps": steps, "gpus": gpus, "executor": "local", "created": START.isoformat(),
            "profile": {"executor": "local"} | (profile or {}),
        },
    )  # fmt: skip
    _tell(run, "submitted", 0, 0.0, executor="local")
    _tell(run, "attempt_started", 1, 0.5, job_id="1", host="n", pid=1)
    write_curve(run, excess, jitter, proteins, steps=steps, seed=seed, number=number, blocks=keeps_blocks)
    _tell(run, "checkpoint", 1, 0.5 + hours, step=steps, seconds=1.0)
    if ended:
        _tell(run, ended, 1, 0.5 + hours, step=steps)
    return run


def write_curve(
    run: RunDir,
    excess: float,
    jitter: float,
    proteins: str,
    *,
    steps: int,
    seed: int,
    number: int,
    blocks: bool,
) -> None:
    rng = random.Random(number)
    noise = [rng.gauss(0, jitter) for _ in PROTEINS]
    rows = []
    for step in range(steps // 5, steps + 1, steps // 5):
        early = 0.5 * math.exp(-step / steps * 3) - 0.5 * math.exp(-3)
        nats = [RESIDUES * (p + excess + early + n) for p, n in zip(PROTEINS, noise, strict=True)]
        row = ValidationRow(
            step=step, proteins=proteins, noise=seed, residues=(RESIDUES,) * BLOCKS, nats=tuple(nats)
        )
        bound = sum(row.nats) / sum(row.residues)
        rows.append({"step": step, "loss": bound, "residues": step * 512, "validation_bound": bound})
        if blocks:
            with run.validations.open("a") as file:
                file.write(json.dumps(row.record()) + "\n")
    run.metrics.write_text("".join(json.dumps(row) + "\n" for row in rows))


def _tell(run: RunDir, event: str, attempt: int, hours: float, **fields: Any) -> None:
    append_event(run.events, event, attempt=attempt, now=START + dt.timedelta(hours=hours), **fields)
