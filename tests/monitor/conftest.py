"""Run folders as the other rooms write them, with a clock of their own."""

import datetime as dt
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sedd.monitor.decide.snapshot import Snapshot, take_snapshot
from sedd.monitor.read.gather import Gatherer
from sedd.monitor.read.queue import Queue
from sedd.rundir.events import append_event
from sedd.rundir.heartbeat import Heartbeat, write_heartbeat
from sedd.rundir.layout import RunDir, create_run, write_manifest

NOW = dt.datetime(2026, 11, 22, 12, 0, 0, tzinfo=dt.UTC)


def token_of(job_id: str) -> str:
    """The token in the comment of the job, or of the array, that `FakeRun.submitted` tells of."""
    return hashlib.sha256(job_id.partition("_")[0].encode()).hexdigest()[:16]


class FakeRun:
    """Writes one run folder; times are seconds before `NOW`, or before `now` if that was set."""

    def __init__(self, folder: RunDir, *, executor: str) -> None:
        self.folder = folder
        self.executor = executor
        self.now = NOW
        self.attempt = 0

    def at(self, ago_s: float) -> dt.datetime:
        return self.now - dt.timedelta(seconds=ago_s)

    def event(self, name: str, *, ago_s: float = 0, **fields: Any) -> "FakeRun":
        append_event(self.folder.events, name, attempt=self.attempt, now=self.at(ago_s), **fields)
        return self

    def submitted(self, *, ago_s: float, job_id: str = "4711", **about: Any) -> "FakeRun":
        fields = {"job_id": job_id, "executor": self.executor, "host": "login"}
        proof = {"token": token_of(job_id), "user": "ada"} if self.executor == "slurm" else {}
        return self.event("submitted", ago_s=ago_s, **fields | proof | about)

    def started(
        self,
        *,
        ago_s: float,
        host: str = "v100-1",
        pid: int = 1,
        job_id: str = "4711",
        executor: str | None = None,
        beat_ago_s: float | None = None,
    ) -> "FakeRun":
        self.attempt += 1
        fields = {
            "job_id": job_id,
            "host": host,
            "pid": pid,
            "nodes": 1,
            "ranks": 4,
            "executor": executor or self.executor,
        }
        fields |= {} if beat_ago_s is None else {"last_beat": self.at(beat_ago_s).isoformat()}
        return self.event("attempt_started", ago_s=ago_s, **fields)

    def resumed(self, step: int, *, ago_s: float, **fields: Any) -> "FakeRun":
        return self.event("resumed", ago_s=ago_s, step=step, checkpoint=f"step-{step:08d}.pt", **fields)

    def checkpoint(self, step: int, *, ago_s: float, reason: str = "periodic") -> "FakeRun":
        return self.event("checkpoint", ago_s=ago_s, step=step, seconds=2.0, bytes=10**8, reason=reason)

    def beat(self, step: int, *, ago_s: float = 2, phase: str = "training", **fields: Any) -> "FakeRun":
        steps = json.loads(self.folder.manifest.read_text())["steps"]
        moment = self.at(ago_s).isoformat()
        known = {"t": moment, "progress_t": moment, "attempt": self.attempt, "phase": phase}
        write_heartbeat(self.folder.heartbeat, Heartbeat(**(known | {"step": step, "steps": steps} | fields)))
        return self

    def rows(self, *losses: float, every: int = 100) -> "FakeRun":
        with open(self.folder.metrics, "a") as file:
            for number, loss in enumerate(losses, 1):
                row = {"step": number * every, "loss": loss, "learning_rate": 3e-4, "grad_norm": 1.0}
                file.write(json.dumps(row) + "\n")
        return self


class Farm:
    """A folder of runs."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def run(
        self,
        name: str = "uniref50_small",
        identity: str = "20261122-080000-1a2b3c4d",
        *,
        executor: str = "slurm",
        **manifest: Any,
    ) -> FakeRun:
        folder = create_run(self.root, name, identity, "name: x\ntraining:\n  steps: 100000\n")
        known = {
            "format": 1,
            "name": name,
            "id": folder.id,
            "created": (NOW - dt.timedelta(hours=4)).isoformat(),
            "steps": 100_000,
            "ranks": 4,
            "gpus": 4,
            "executor": executor,
            "profile": {"executor": executor, "gpu": {"type": "v100", "memory": None}},
            "point": {},
            "sweep": None,
        }
        write_manifest(folder, known | manifest)
        return FakeRun(folder, executor=executor)


@pytest.fixture
def farm(tmp_path: Path) -> Farm:
    return Farm(tmp_path / "my runs")


def _squeue_line(
    job_id: str = "4711",
    state: str = "RUNNING",
    *,
    reason: str = "None",
    nodes: str = "v100-1",
    start: str = "N/A",
    comment: str | None = None,
    user: str = "ada",
    submitted: str = "1795348800",
) -> str:
    """One line of `squeue --Format=…` as SLURM 22.05 prints it with the field widths of sedd.cluster.squeue.

    The comment is that of the job which a run of `Farm` has submitted, unless it is given.
    """
    fields = [job_id, job_id.replace("_", ""), state, reason, nodes, submitted, start, "N/A", "1-00:00:00"]
    fields += ["0", "gpu", user, f"sedd token={token_of(job_id)}" if comment is None else comment]
    fields += ["uniref50_small"]
    return "|".join(field.ljust(20) for field in fields) + "|\n"


def _snapshot_of(
    *runs: FakeRun, squeue: str = "", now: dt.datetime = NOW, alive: bool | None = None
) -> Snapshot:
    """What the monitor sees when squeue prints `squeue`; without slurmdbd."""

    def no_accounting(ids: object) -> str:
        from sedd.cluster.command import SlurmUnreachableError

        raise SlurmUnreachableError("sacct: no slurmdbd")

    queue = Queue(squeue=lambda users: squeue, sacct=no_accounting)
    gatherer = Gatherer(queue=queue, alive=lambda history: alive)
    return take_snapshot(gatherer.gather([run.folder for run in runs], now=now))


@pytest.fixture
def now() -> dt.datetime:
    """The moment that the fake runs count back from."""
    return NOW


@pytest.fixture
def squeue_line() -> Callable[..., str]:
    return _squeue_line


@pytest.fixture
def snapshot_of() -> Callable[..., Snapshot]:
    return _snapshot_of


@pytest.fixture
def zoo(farm: Farm) -> Snapshot:
    """One run in each state, as a busy user's morning."""
    running = farm.run("uniref50_small", "20261122-080000-1a2b3c4d").submitted(ago_s=4 * 3600, job_id="100")
    running.started(ago_s=3 * 3600, job_id="100").checkpoint(20_000, ago_s=2 * 3600)
    running.event("stop_requested", ago_s=7000, step=20_400, signal="SIGTERM")
    running.checkpoint(20_400, ago_s=6990, reason="stop").event(
        "requeued", ago_s=6980, cause="preempted", step=20_400
    )
    running.started(ago_s=3600, job_id="100").resumed(20_400, ago_s=3550).checkpoint(40_000, ago_s=240)
    running.beat(
        40_600,
        loss=2.41234,
        validation_bound=2.4301,
        residues_per_s=261_000.0,
        eta_s=11_100.0,
        gpu="Tesla V100-SXM2-32GB",
    )
    running.rows(*(2.9 - 0.01 * i for i in range(50)))
    queued = farm.run("uniref50_base", "20261122-110000-aaaaaaaa").submitted(ago_s=3600, job_id="101")
    preflight = farm.run("protein_gym_long_name_of_a_run", "20261122-115900-bbbbbbbb").submitted(
        ago_s=90, job_id="102"
    )
    preflight.started(ago_s=20, job_id="102").beat(0, phase="preflight")
    saving = farm.run("savers", "20261122-090000-cccccccc").submitted(ago_s=9000, job_id="103")
    saving.started(ago_s=8000, job_id="103").checkpoint(100, ago_s=3000)
    saving.beat(1000, phase="checkpointing", loss=2.7, residues_per_s=55_000.0, eta_s=86_400.0 * 3 + 7200)
    requeued = farm.run("requeuers", "20261122-090001-dddddddd").submitted(ago_s=9000, job_id="104")
    requeued.started(ago_s=8000, job_id="104").checkpoint(52_345, ago_s=3000)
    requeued.event("requeued", ago_s=2990, cause="time_limit", step=52_345)
    stalled = farm.run("stalled", "20261122-090002-eeeeeeee").submitted(ago_s=9000, job_id="105")
    stalled.started(ago_s=8000, job_id="105").beat(12_345, ago_s=700, loss=2.6, residues_per_s=1e5, eta_s=1e4)
    lost = farm.run("lost", "20261122-090003-ffffffff").submitted(ago_s=9000, job_id="106")
    lost.started(ago_s=8000, job_id="106").beat(99, ago_s=4000, loss=3.1)
    gave_up = farm.run("gave_up", "20261122-090004-00000000").submitted(ago_s=9000, job_id="107")
    gave_up.started(ago_s=8000, job_id="107").event(
        "failed",
        ago_s=7000,
        cause="crashed",
        error="RuntimeError: CUDA error: no kernel image is available",
        rank=0,
    )
    gave_up.event("gave_up", ago_s=6999, cause="crashed", step=0, detail="1 retry used")
    done = farm.run("quickstart", "20261122-090005-11111111", executor="local", gpus=0, steps=400)
    done.submitted(ago_s=9000, job_id="77").started(ago_s=8990).checkpoint(400, ago_s=8700, reason="last")
    done.beat(
        400, ago_s=8700, phase="done", loss=2.71, validation_bound=2.69, residues_per_s=9876.0, eta_s=0.0
    )
    done.event("completed", ago_s=8690, step=400)
    failed = farm.run("failed", "20261122-090006-22222222").submitted(ago_s=9000, job_id="108")
    cancelled = farm.run("cancelled", "20261122-090007-33333333").submitted(ago_s=9000, job_id="109")
    cancelled.event("cancelled", ago_s=100, by="ada")
    start = str(int(NOW.timestamp()) + 7500)
    squeue = (
        _squeue_line("100")
        + _squeue_line("101", "PENDING", reason="Priority", nodes="", start=start)
        + _squeue_line("102")
        + _squeue_line("103", nodes="v100-[1-2]")
        + _squeue_line("104", "PENDING", reason="BeginTime", nodes="")
        + _squeue_line("105", nodes="v100-4")
        + _squeue_line("108", "FAILED", nodes="v100-3")
    )
    runs = (running, queued, preflight, saving, requeued, stalled, lost, gave_up, done, failed, cancelled)
    return _snapshot_of(*runs, squeue=squeue)
