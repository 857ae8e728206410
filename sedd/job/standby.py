"""Processes that stand by: what a training imports is imported, and they wait for the next attempt in this job.

To import torch takes seconds from a local disk, and longer from the file server of a busy cluster. A rank that is
restarted in its job need not wait for that: a process beside each training has done it meanwhile. It touches no GPU,
and keeps 164 MB of the node's memory with a CPU build of torch.

What is handed over, as one line of JSON on its standard input, is the environment of its rank and the rank's log. It
then is a training like any other.
"""

import contextlib
import gc
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sedd.job.processes import DIE_S, start
from sedd.rundir.process_name import STANDING_BY, name_process
from sedd.rundir.rank_progress import VARIABLE, open_progress, progress_writer

STAND_BY = "--stand-by"
"""The worker's option that makes it wait."""
PREPARE_AFTER_S = 60.0
"""An attempt that has trained so long is worth a process that stands by for the next."""

_OF_RANKS = ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT", "SEDD_ATTEMPT")
"""Variables that a process has only when it trains."""
_IMPORTS = ("sedd.training.loop", "sedd.training.distributed", "sedd.preflight.run_checks")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standby:
    """A process that stands by."""

    process: "subprocess.Popen[bytes]"
    progress: int
    """Descriptor of its rank's progress."""
    environment: Mapping[str, str]
    """What it was started with."""

    def hand_over(self, environment: Mapping[str, str], log: Path | None) -> bool:
        """Make it the training of a rank; whether it is alive. `log` None: it writes where this process does."""
        changed = {k: v for k, v in environment.items() if self.environment.get(k) != v}
        gone = sorted(self.environment.keys() - environment.keys() - {VARIABLE})
        line = json.dumps({"set": changed, "unset": gone, "log": str(log) if log else None})
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(line.encode() + b"\n")
            self.process.stdin.close()
        except OSError:
            return False
        return self.process.poll() is None


@dataclass(slots=True)
class Standbys:
    """Those of one job entry. They end when it ends, however it does: their input is closed then."""

    ready: list[Standby] = field(default_factory=list)

    def prepare(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        count: int,
        keep_open: Sequence[int] = (),
    ) -> None:
        """Start as many as are missing of `count`. `environment` is that of any rank: its place is left out."""
        if self.ready and all(standby.process.poll() is None for standby in self.ready):
            return
        self.close()
        bare = {name: value for name, value in environment.items() if name not in _OF_RANKS}
        for _ in range(count):
            progress = open_progress()
            here = bare | {VARIABLE: str(progress)}
            process = start(
                [*command[:-1], STAND_BY, command[-1]],
                environment=here,
                log=None,
                keep_open=(*keep_open, progress),
                stdin=subprocess.PIPE,
            )
            self.ready.append(Standby(process=process, progress=progress, environment=here))

    def take(self) -> Standby | None:
        """One that is alive, if there is one; its descriptor is the caller's from now on."""
        while self.ready:
            standby = self.ready.pop()
            if standby.process.poll() is None:
                return standby
            os.close(standby.progress)
        return None

    def pids(self) -> frozenset[int]:
        """Of the processes that stand by."""
        return frozenset(standby.process.pid for standby in self.ready)

    def close(self) -> None:
        """End them."""
        for standby in self.ready:
            standby.process.kill()
            with contextlib.suppress(subprocess.TimeoutExpired):  # it waits for a dead disk
                standby.process.wait(DIE_S)
            os.close(standby.progress)
        self.ready.clear()


def import_training() -> None:
    """Import what a training and its checks need, without garbage collection, which takes a tenth of that time.

    None of it is ever garbage, so later collections skip it.
    """
    gc.disable()
    try:
        for module in _IMPORTS:
            importlib.import_module(module)
        importlib.import_module("sedd.preflight.check").all_checks()
    finally:
        gc.freeze()
        gc.enable()


def await_attempt() -> None:
    """Import what a training needs, then become the training that is handed over; end this process if none is."""
    name_process(STANDING_BY)
    # Whoever is handed an attempt while its imports hang, as on a dead file server, is watched like all others.
    progress_writer(os.environ).phase("starting")
    import_training()
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        importlib.import_module("torch._dynamo")  # as DDP will: a second of a core
    line = sys.stdin.buffer.readline()
    if not line.endswith(b"\n"):
        sys.exit(0)  # the job entry is gone
    wanted = json.loads(line)
    for name in wanted["unset"]:
        os.environ.pop(name, None)
    os.environ.update(wanted["set"])
    _redirect(os.devnull, os.O_RDONLY, 0)
    if wanted["log"]:
        _redirect(wanted["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 1, 2)


def _redirect(path: str, flags: int, *descriptors: int) -> None:
    source = os.open(path, flags, 0o666)
    for descriptor in descriptors:
        os.dup2(source, descriptor)
    os.close(source)
