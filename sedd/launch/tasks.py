"""What a job's process does, by the spec's `task:`. Each imports what it works with when it is its turn."""

import os
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sedd.launch.fit_node import require_fit_node
from sedd.launch.resources import read_manifest_profile
from sedd.launch.words import say
from sedd.rundir.exits import Exit
from sedd.rundir.layout import RunDir
from sedd.rundir.pulse import Pulse, pulse
from sedd.spec.build import BuildOptions, DataTask
from sedd.spec.load import load_resolved_as

if TYPE_CHECKING:
    from sedd.training.stop import StopFlag

Work = Callable[[RunDir, int, "StopFlag"], Exit]
"""A run folder and the number of the attempt; returns early, what it has saved, when the flag is set."""


def train(run: RunDir, attempt: int, stop: "StopFlag") -> Exit:
    """Train as the rank that the environment names."""
    from sedd.training.distributed import Ranks
    from sedd.training.run import Outcome
    from sedd.training.run import train as train_run

    ranks = Ranks.from_environment(os.environ)
    require_fit_node(run, attempt, ranks_size=ranks.size, rank=ranks.rank, local_rank=ranks.local_rank)
    site = read_manifest_profile(run)
    outcome = train_run(run, attempt=attempt, ranks=ranks, stop=stop, wandb=site.wandb, stage=site.stage)
    return Exit.COMPLETED if outcome is Outcome.COMPLETED else Exit.STOPPED


def build_store(run: RunDir, attempt: int, stop: "StopFlag") -> Exit:
    """Build a token store. An attempt that is stopped leaves nothing; the next one starts afresh, in minutes."""
    from sedd.data.build import build_store as build

    require_fit_node(run, attempt, ranks_size=1, rank=0, local_rank=0)
    wanted = load_resolved_as(DataTask, run.spec).build
    options = BuildOptions.model_validate(wanted.model_dump(include=set(BuildOptions.model_fields)))
    total = sum(path.stat().st_size for path in wanted.inputs if path.exists())
    with pulse(run.heartbeat, attempt=attempt, steps=total, unit="bytes") as beat:
        progress = _Progress(beat, total, stop)
        try:
            result = build(list(wanted.inputs), wanted.store, options, progress=progress)
        except _StoppedError:
            beat.update(phase="stopping")
            return Exit.STOPPED
        beat.update(phase="done", step=total)
    print(f"{wanted.store}: {'is there already' if result.reused else 'built'}", flush=True)
    say(run, "checkpoint", attempt=attempt, step=total, reason="last")
    return Exit.COMPLETED


class _StoppedError(Exception):
    """The flag was set."""


class _Progress:
    """Tells the heartbeat how many bytes of input have been read, and asks the flag."""

    def __init__(self, beat: Pulse, total: int, stop: "StopFlag") -> None:
        self._beat, self._total, self._stop = beat, total, stop
        self._read, self._began = 0, time.monotonic()

    def __call__(self, read_bytes: int) -> None:
        if self._stop:
            raise _StoppedError
        self._read += read_bytes
        rate = self._read / max(time.monotonic() - self._began, 1e-3)
        left_s = max(0.0, self._total - self._read) / max(rate, 1.0)
        self._beat.update(phase="building", step=self._read, eta_s=left_s)


WORK: dict[str, Work] = {"train": train, "data": build_store}
