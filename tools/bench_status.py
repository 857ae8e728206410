"""Measure `sedd status` on many runs: make run folders, answer for squeue, take the time.

Seconds are of CPU, user and system, the best of a few: other users of the machine are not the program's fault. A busy
machine still makes them two to three times as many, so the first table is also given as a multiple of what merely
opening, reading and json-parsing the same files costs there and then.

python tools/bench_status.py --runs 10000 --check
"""

import argparse
import contextlib
import datetime as dt
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from rich.console import Console

from sedd.monitor.decide.snapshot import Views
from sedd.monitor.read.gather import Gatherer
from sedd.monitor.read.listing import Listing
from sedd.monitor.read.queue import Queue
from sedd.monitor.show.table import recent, status_table
from sedd.rundir.find import list_runs

NOW = dt.datetime.now(dt.UTC)
LIMITS = {"first table": 1.5, "refresh": 0.3, "memory": 200.0, "start with 10 runs": 0.4}
PER_SWEEP = 1000
TOKEN = "0123456789abcdef"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--check", action="store_true", help="fail when a limit is missed")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench status "))
    try:
        measured = {"start with 10 runs": measure_start(folder / "few")}
        measured |= measure_many(folder / "many", arguments.runs)
    finally:
        shutil.rmtree(folder)
    bare_s = measured.pop("bare reading")
    for name, value in measured.items():
        unit = "MiB" if name == "memory" else "s"
        print(f"{name:<20} {value:8.3f} {unit}   limit {LIMITS[name]:g} {unit}")
    print(
        f"{'bare reading':<20} {bare_s:8.3f} s; the first table takes {measured['first table'] / bare_s:.2f} times that"
    )
    if arguments.check and any(value > LIMITS[name] for name, value in measured.items()):
        sys.exit(1)


def measure_start(root: Path) -> float:
    """CPU seconds of the whole `sedd status` process, the best of five."""
    make_runs(root, 10)
    command = [sys.executable, "-m", "sedd", "status", "--all"]
    environment = os.environ | {"SEDD_RUNS": str(root), "PATH": "/usr/bin:/bin"}
    return min(
        _cpu_s(lambda: subprocess.run(command, env=environment, check=True, capture_output=True))
        for _ in range(5)
    )


def measure_many(root: Path, count: int) -> dict[str, float]:
    """First table, refresh after one run in a hundred moved on, and peak memory, in this process; bare reading."""
    lines = "".join(make_runs(root, count))
    first = min(_cpu_s(_tables(root, lines)) for _ in range(3))
    bare = min(_cpu_s(lambda: read_barely(root)) for _ in range(3))
    table = _tables(root, lines)
    table()
    refreshes = []
    for _ in range(5):
        for run in list_runs(root)[::100]:
            write_beat(run.path, 50_000, attempt=4)
        refreshes.append(_cpu_s(table))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"first table": first, "refresh": min(refreshes), "memory": memory, "bare reading": bare}


def read_barely(root: Path) -> None:
    """Open, read and parse every file that a table is made from: what no monitor without a memory can go below."""
    for run in list_runs(root):
        for name in ("manifest.json", "heartbeat.json", "events.jsonl"):
            with contextlib.suppress(FileNotFoundError), open(run.path / name, "rb") as file:
                for line in file:
                    json.loads(line)


def _tables(root: Path, lines: str) -> Callable[[], None]:
    """Draws the table, each time as it then is; the first time with nothing remembered."""
    queue = Queue(squeue=lambda users: lines, sacct=lambda ids: "", cluster=lambda: "one")
    gatherer, views, listing = Gatherer(queue=queue), Views(), Listing(root)
    console = Console(file=io.StringIO(), width=160)

    def table() -> None:
        snapshot = views.snapshot(gatherer.gather(listing.runs(), now=dt.datetime.now(dt.UTC)))
        console.print(status_table(snapshot, recent(snapshot), width=160))

    return table


def make_runs(root: Path, count: int) -> list[str]:
    """Make run folders as they are after a few days, in sweeps; their lines of squeue.

    Of ten runs seven train, two wait, one is completed; every fourth has been preempted three times.
    """
    lines = []
    for number in range(count):
        sweep, point = divmod(number, PER_SWEEP)
        path = root / f"sweep_{sweep}" / f"20261120-080000-{number:08x}"
        path.mkdir(parents=True)
        kind = "waits" if point % 10 in (3, 6) else "ended" if point % 10 == 9 else "trains"
        _write_run(path, job_id=f"{sweep + 1}_{point}", point=point, sweep=f"s{sweep}", kind=kind)
        if kind != "ended":
            lines.append(squeue_line(f"{sweep + 1}_{point}", "PENDING" if kind == "waits" else "RUNNING"))
    return lines


def write_beat(path: Path, step: int, *, attempt: int = 1) -> None:
    """One heartbeat, as training writes it."""
    moment = dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
    beat = {
        "t": moment,
        "progress_t": moment,
        "attempt": 4,
        "phase": "training",
        "step": step,
        "steps": 100_000,
    }
    beat |= {
        "loss": 2.4,
        "validation_bound": 2.4 + (hash(path) % 1000) / 1e4,
        "residues_per_s": 2.6e5,
        "eta_s": 1e4,
    }
    beat |= {"host": "v100-1", "pid": 1, "gpu": "Tesla V100-SXM2-32GB", "gpu_memory_bytes": 12_000_000_000}
    (path / "heartbeat.json").write_text(json.dumps(beat) + "\n")


def squeue_line(job_id: str, state: str) -> str:
    """As `squeue --Format` prints it for sedd.cluster.squeue."""
    fields = (
        job_id,
        job_id.replace("_", "0"),
        state,
        "Priority",
        "v100-1",
        "1795348800",
        "N/A",
        "N/A",
        "1-00:00:00",
    )
    return (
        "|".join(field.ljust(20) for field in (*fields, "0", "gpu", "ada", f"sedd token={TOKEN}", "sweep"))
        + "|\n"
    )


def _write_run(path: Path, *, job_id: str, point: int, sweep: str, kind: str) -> None:
    manifest = {"format": 1, "created": NOW.isoformat(), "steps": 100_000, "gpus": 4, "executor": "slurm"}
    manifest |= {
        "sweep": sweep,
        "point": {"training.learning_rate": point / 1e6},
        "profile": {"executor": "slurm"},
    }
    (path / "spec.yaml").touch()
    (path / "manifest.json").write_text(json.dumps(manifest))
    events = list(_events(job_id, kind, attempts=4 if point % 4 == 0 else 1))
    (path / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    if kind != "waits":
        write_beat(path, 40_000, attempt=4 if point % 4 == 0 else 1)
        rows = [
            {"step": 100 * k, "loss": 3 - k / 400, "grad_norm": 1.0, "learning_rate": 3e-4}
            for k in range(400)
        ]
        (path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def _events(job_id: str, kind: str, *, attempts: int) -> Iterator[dict[str, object]]:
    """Attempts of ten checkpoints each; all but the last were preempted."""
    moment = NOW - dt.timedelta(hours=8)

    def event(name: str, attempt: int, **fields: object) -> dict[str, object]:
        nonlocal moment
        moment += dt.timedelta(minutes=8)
        return {"t": moment.isoformat(timespec="milliseconds"), "event": name, "attempt": attempt} | fields

    proof = {"token": TOKEN, "user": "ada", "cluster": "one", "submitted_at": 1795348800}
    yield event("submitted", 0, job_id=job_id, executor="slurm", host="login", **proof)
    for attempt in range(1, attempts + 1 if kind != "waits" else 1):
        yield event(
            "attempt_started",
            attempt,
            job_id=job_id,
            host="v100-1",
            pid=1,
            nodes=1,
            ranks=4,
            executor="slurm",
        )
        for k in range(10):
            yield event(
                "checkpoint", attempt, step=1000 * (10 * attempt + k), seconds=2.0, bytes=1, reason="periodic"
            )
        if attempt < attempts:
            yield event("requeued", attempt, cause="preempted", step=1000 * (10 * attempt + 9), detail="")
    if kind == "ended":
        yield event("completed", attempts, step=100_000)


def _cpu_s(action: Callable[[], object]) -> float:
    """CPU seconds of the action, in this process and in children that it waited for."""
    begun = sum(os.times()[:4])
    action()
    return sum(os.times()[:4]) - begun


if __name__ == "__main__":
    main()
