"""Small experiments, and local runs whose training process is a stand-in that behaves as the test says."""

import datetime as dt
import json
import shutil
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sedd.cluster.local import signal_local
from sedd.cluster.profile import LocalProfile
from sedd.launch.freeze import code_hash
from sedd.launch.local_processes import find_members, wait_until
from sedd.launch.make_runs import Order, make_runs
from sedd.launch.submit_local import submit_local
from sedd.rundir.events import Event, read_events
from sedd.rundir.layout import RunDir, read_manifest, write_manifest
from sedd.spec.experiment import Experiment
from sedd.spec.load import Request
from sedd.spec.task import TaskSpec

STAND_IN = Path(__file__).parents[1] / "job" / "stand_in_worker.py"
ENDS = ("completed", "gave_up", "cancelled")


def small_experiment(**changes: object) -> Experiment:
    """A valid experiment of forty steps; `changes` are top-level fields."""
    basic = {
        "name": "small",
        "data": {"store": "/data/proteins.store"},
        "training": {"steps": 40, "residues_per_step": 4096, "residues_per_gpu": 1024},
        "resources": {"gpus_per_node": 0, "cpus_per_process": 1, "memory": "2GiB", "walltime": "1h"},
    }
    return Experiment.model_validate(basic | changes)


def order_for(
    *experiments: TaskSpec,
    runs: Path,
    profile: object = None,
    parallel: int | None = None,
    after: Sequence[RunDir] = (),
) -> Order:
    points = tuple({} if len(experiments) == 1 else {"seed": e.seed} for e in experiments)
    return Order(
        request=Request(experiments=experiments, points=points, parallel=parallel),
        profile=profile or LocalProfile(executor="local"),  # type: ignore[arg-type] # tests hand in profiles
        runs=runs,
        parameters=[23] * len(experiments),
        after=after,
    )


def change_code(run: RunDir, file: str, old: str, new: str) -> None:
    """Change a line of a run's frozen code, which takes the change for its own."""
    path = run.code / "sedd" / file
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    write_manifest(run, read_manifest(run) | {"code_hash": code_hash(run.code / "sedd")})


class LocalRuns:
    """Makes and starts local runs with the stand-in worker; ends what is left of them."""

    def __init__(self, runs: Path) -> None:
        self.runs = runs
        self.made: list[RunDir] = []

    def make(self, *experiments: TaskSpec, plan: str = "train", parallel: int | None = None) -> list[RunDir]:
        """Run folders whose attempts behave as `plan` says: words of stand_in_worker.py, one an attempt."""
        order = order_for(*experiments, runs=self.runs, parallel=parallel)
        batch = make_runs(order, now=dt.datetime.now(dt.UTC), made=[])
        shutil.copy(STAND_IN, batch.folder / "code" / "sedd" / "job" / "worker.py")
        changed = {"code_hash": code_hash(batch.folder / "code" / "sedd")}
        for run in batch.runs:
            write_manifest(run, read_manifest(run) | changed)
            (run.path / "plan.txt").write_text(plan)
        self.made += batch.runs
        return list(batch.runs)

    def start(self, *experiments: TaskSpec, plan: str = "train", parallel: int | None = None) -> list[RunDir]:
        runs = self.make(*experiments or (small_experiment(),), plan=plan, parallel=parallel)
        submit_local(runs)
        return runs

    def start_one(self, experiment: Experiment | None = None, *, plan: str = "train") -> RunDir:
        return self.start(experiment or small_experiment(), plan=plan)[0]

    def end(self) -> None:
        for run in self.made:
            for member in find_members(run):
                signal_local(member.process, signal.SIGKILL)


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalRuns]:
    runs = LocalRuns(tmp_path / "runs of a test")
    yield runs
    runs.end()


def wait_for_event(run: RunDir, *kinds: str, count: int = 1, timeout_s: float = 120.0) -> Event:
    """The count-th event of these kinds; fails, with all events, when it does not come."""

    def found() -> list[Event]:
        return [e for e in read_events(run.events) if e.event in kinds]

    came = wait_until(lambda: len(found()) >= count, timeout_s=timeout_s)
    assert came, f"no {kinds} (x{count}) in {timeout_s} s:\n{run.events.read_text()}\n{logs_of(run)}"
    return found()[count - 1]


def wait_for_end(run: RunDir, *, timeout_s: float = 120.0) -> Event:
    """The run's last word, once no process of it is left."""
    word = wait_for_event(run, *ENDS, timeout_s=timeout_s)
    assert wait_until(lambda: not find_members(run), timeout_s=60), find_members(run)
    return word


def wait_for_steps(run: RunDir, steps: int) -> None:
    """Wait until the stand-in has counted so far."""
    path = run.path / "progress.txt"
    assert wait_until(lambda: path.exists() and int(path.read_text() or 0) >= steps, timeout_s=120), logs_of(
        run
    )


def story(run: RunDir) -> list[str]:
    """The run's events as `event` or `event:cause`, preflight and checkpoints left out."""
    told = [e for e in read_events(run.events) if e.event not in ("preflight", "checkpoint")]
    return [f"{e.event}:{e.get('cause')}" if e.get("cause") else e.event for e in told]


def logs_of(run: RunDir) -> str:
    files = sorted([*run.logs.glob("*"), *run.submitit.glob("*log*")])
    return "\n".join(f"--- {path.name}\n{path.read_text(errors='replace')}" for path in files)


def is_alive(pid: int) -> bool:
    """Whether a process lives (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def write_events(run: RunDir, *events: dict[str, object]) -> None:
    """Write events one second apart, as a run's past."""
    start = dt.datetime(2026, 11, 22, tzinfo=dt.UTC)
    lines = [
        json.dumps({"t": (start + dt.timedelta(seconds=n)).isoformat(), "attempt": 0} | event)
        for n, event in enumerate(events)
    ]
    run.events.write_text("\n".join(lines) + "\n")
