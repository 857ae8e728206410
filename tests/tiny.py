"""A network and a store so small that a training takes a second, and training in processes of their own."""

import datetime as dt
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sedd.rundir.layout import RunDir
from sedd.spec.experiment import Experiment

PROTEINS = Path(__file__).parents[1] / "jobs/data/uniprot2k.fasta.gz"
MAX_LENGTH, RESIDUES_PER_STEP = 64, 512


def tiny_spec(store: Path, **training: Any) -> Experiment:
    """A network that takes a few milliseconds a step."""
    return Experiment.model_validate(
        {
            "name": "tiny",
            "data": {"store": str(store), "max_length": MAX_LENGTH},
            "model": {"hidden": 16, "cond": 8, "blocks": 1, "heads": 2},
            "training": {
                "steps": 24,
                "residues_per_step": RESIDUES_PER_STEP,
                "residues_per_gpu": RESIDUES_PER_STEP // 2,
                "warmup_steps": 4,
                "learning_rate": 1e-3,
                "log_every_steps": 2,
                "validation": {"every_steps": 9, "residues": 1024},
                "checkpoint": {"every_steps": 5},
            }
            | training,
            "resources": {"gpus_per_node": 0, "cpus_per_process": 1},
            "tracking": {"wandb": "disabled"},
        }
    )


def train_process(
    run: RunDir, *, attempt: int = 1, end: str = "never", ranks: int = 1, before: Sequence[str] = ()
) -> int:
    """Train in processes of their own; `end` is `never`, `stop:N`, or `kill:N` (SIGKILL before step N+1).

    `kill-saved:N` waits there for the first checkpoint, whose writer is a thread beside the steps; `kill-one:N` kills
    rank 1 alone. `before` is a command that runs each process.
    """
    command = [
        *before,
        sys.executable,
        str(Path(__file__).parent / "training/train_process.py"),
        str(run.path),
        str(attempt),
        end,
    ]
    port = 20000 + os.getpid() % 20000 + int(dt.datetime.now().timestamp() * 1000) % 1000
    shared = os.environ | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks)}
    processes = [
        subprocess.Popen(command, env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)})
        for rank in range(ranks)
    ]
    return max((process.wait(timeout=120) for process in processes), key=abs)
