"""What chaos.py hurts: real, tiny training runs in three layouts, submitted as a user submits them."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from _chaos_site import Site

from sedd.cluster.identity import parse_mark
from sedd.cluster.jobs import JobFact
from sedd.errors import ClusterError
from sedd.rundir.attempts import Attempt, parse_attempts
from sedd.rundir.events import Event, read_events
from sedd.rundir.layout import RunDir

DATA = Path(__file__).resolve().parents[1] / "jobs" / "data" / "uniprot2k.fasta.gz"
PARTITIONS = ("requeue", "nograce", "cancel")

LAYOUTS: dict[str, dict[str, Any]] = {
    "single": {},
    "array": {"sweep": {"grid": {"seed": [1, 2]}}},
    "2x2": {"resources": {"nodes": 2, "processes_per_node": 2}},
}
"""Changes to the spec that make each layout."""
# What gives the same bits run by run, in a V100's instructions; a head of 32 for `tiled`.
_ON_GPUS = {"model": {"hidden": 64, "heads": 2}, "training": {"precision": "fp16", "attention": "tiled"}}
GPU_LAYOUTS: dict[str, dict[str, Any]] = {
    "gpu": _ON_GPUS | {"resources": {"gpus_per_node": 1}},
    "2-gpus": _ON_GPUS | {"resources": {"gpus_per_node": 2}},
}
"""Layouts that train on this machine's real GPUs, over NCCL; each of the cluster's nodes has the same ones."""


def spec_of(layout: str, store: Path, *, steps: int) -> dict[str, Any]:
    """A spec of a few seconds: a network of 4,000 parameters, everything else as in a real run."""
    spec: dict[str, Any] = {
        "name": f"chaos-{layout}",
        "data": {"store": str(store), "max_length": 128},
        "model": {"hidden": 32, "cond": 16, "blocks": 1, "heads": 2, "dropout": 0.1},
        "training": {
            "steps": steps,
            "residues_per_step": 512,
            "residues_per_gpu": 128,
            "warmup_steps": 20,
            "ema_decay": 0.99,
            "log_every_steps": 1,
            "validation": {"every_steps": 100, "residues": 512},
            "checkpoint": {"every_steps": 25, "keep": 2},
        },
        "resources": {"gpus_per_node": 0, "cpus_per_process": 1, "memory": "1GiB", "walltime": "60m"},
        # Faults come much faster than in life: an attempt that saved nothing is no sign of a broken run.
        "retry": {"without_progress": 1000, "hang_after": "8s"},
        "tracking": {"wandb": "disabled"},
    }
    for key, change in (LAYOUTS | GPU_LAYOUTS)[layout].items():
        spec[key] = spec.get(key, {}) | change
    return spec


@dataclass(slots=True)
class Watched:
    """A run of the campaign."""

    run: RunDir
    layout: str
    """`array/1` for the second point of an array."""
    partition: str
    begun: float = field(default_factory=time.monotonic)
    ended: float | None = None
    """When it was seen to be completed, or lost."""
    is_deleted: bool = False
    """Its folder was deleted on purpose: it has to end, not to complete."""

    def said(self) -> Sequence[Event]:
        return read_events(self.run.events)

    @property
    def is_away(self) -> bool:
        """Whether its folder is somewhere else just now."""
        return not self.run.manifest.exists()

    @property
    def job_id(self) -> str:
        return str(self._submission.get("job_id"))

    def own(self, known: Mapping[str, JobFact]) -> JobFact | None:
        """Its job among those that SLURM shows; another job may have its id."""
        job = known.get(self.job_id) if not self.is_away else None
        mark = parse_mark(job.comment) if job else None
        return job if mark and mark.token == self._submission.get("token") else None

    @property
    def _submission(self) -> Event:
        return next(e for e in reversed(self.said()) if e.event == "submitted")

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        return parse_attempts(self.said())

    @property
    def is_completed(self) -> bool:
        return any(event.event == "completed" for event in self.said())


def build_store(site: Site) -> Path:
    """The proteins of jobs/data as a token store."""
    store = site.work / "store"
    sedd("data", "build", str(DATA), "-o", str(store))
    return store


def submit(
    site: Site, layout: str, partition: str, store: Path, *, steps: int, shell: Mapping[str, str]
) -> list[Watched]:
    """`sedd submit` of a layout to a partition, from a shell with these variables. Raises: ClusterError."""
    spec, profile = site.work / f"{layout}.yaml", site.work / f"{partition}.yaml"
    spec.write_text(json.dumps(spec_of(layout, store, steps=steps)))  # JSON is YAML
    profile.write_text(json.dumps({"executor": "slurm", "partition": partition, "wandb": "disabled"}))
    command = ("submit", str(spec), "--cluster", str(profile), "--no-preflight", "--resubmit", "--json")
    made = json.loads(sedd(*command, **shell, SEDD_RUNS=str(site.runs)))["runs"]
    names = [layout] if len(made) == 1 else [f"{layout}/{n}" for n in range(len(made))]
    return [
        Watched(RunDir(Path(run["path"])), name, partition) for run, name in zip(made, names, strict=True)
    ]


def sedd(*arguments: str, **environment: str) -> str:
    """What a `sedd` command prints. Raises: ClusterError when it fails."""
    command = [sys.executable, "-m", "sedd", *arguments]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        raise ClusterError(f"sedd {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
