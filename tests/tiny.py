"""A network and a store so small that a training takes a second, and training in processes of their own."""

import atexit
import contextlib
import functools
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from sedd.rundir.layout import RunDir
from sedd.spec.experiment import Experiment

TORCH = tuple(map(int, metadata.version("torch").split(".")[:2]))
cuts_networks = pytest.mark.skipif(
    TORCH < (2, 10), reason="before torch 2.10 shard: full works on GPUs alone"
)

PROTEINS = Path(__file__).parents[1] / "jobs/data/uniprot2k.fasta.gz"
MAX_LENGTH, RESIDUES_PER_STEP = 64, 512
TRAIN = Path(__file__).parent / "training/train_process.py"
LONGEST_S = 300
"""Of a training in processes of their own."""


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
    arguments = [str(run.path), str(attempt), end]
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(_free_port())}
    shared = os.environ | meeting | {"WORLD_SIZE": str(ranks)}
    environments = [shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(ranks)]
    if before:
        command = [*before, sys.executable, str(TRAIN), *arguments]
        processes = [subprocess.Popen(command, env=environment) for environment in environments]
        codes = [process.wait(timeout=LONGEST_S) for process in processes]
    else:
        codes = _forked(arguments, environments, is_first=attempt == 1)
    return max(codes, key=abs)


def _free_port() -> int:
    """Below those that the system gives to connections (from 32768 on), one of which could take it meanwhile."""
    while True:
        port = random.SystemRandom().randrange(15_000, 32_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return port


def _forked(arguments: list[str], environments: list[dict[str, str]], *, is_first: bool) -> list[int]:
    """The exit codes of processes that a server forks. Later attempts have another server: its hashes differ."""
    server = _server(is_first)
    assert server.stdin is not None
    assert server.stdout is not None
    request = {"arguments": arguments, "environments": environments, "folder": os.getcwd()}
    server.stdin.write(json.dumps(request).encode() + b"\n")
    started = json.loads(server.stdout.readline())
    if not select.select([server.stdout], [], [], LONGEST_S)[0]:
        for process in started:
            with contextlib.suppress(ProcessLookupError):  # the one for which the others wait has ended
                os.kill(process, signal.SIGKILL)
        server.stdout.readline()
        raise subprocess.TimeoutExpired(arguments, LONGEST_S)
    return json.loads(server.stdout.readline())  # type: ignore[no-any-return] # a list of int


@functools.cache
def _server(is_first: bool) -> "subprocess.Popen[bytes]":
    """Ends with this process, at the latest when its stdin does."""
    pipe = subprocess.PIPE
    server = subprocess.Popen([sys.executable, str(TRAIN)], stdin=pipe, stdout=pipe, bufsize=0)
    atexit.register(server.communicate)
    return server
