"""What `sedd status` says of runs on a real SLURM: waiting, preempted, stopped, without an answer, cancelled."""

import contextlib
import datetime as dt
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sedd.cluster.control import scancel
from sedd.cluster.identity import own_job
from sedd.cluster.squeue import query_squeue
from sedd.launch.local_processes import wait_until
from sedd.monitor.decide.snapshot import RunView, Snapshot, take_snapshot
from sedd.monitor.decide.state import State
from sedd.monitor.read.gather import Gatherer
from sedd.monitor.read.queue import Queue
from sedd.rundir.attempts import Cause
from sedd.rundir.heartbeat import STALE_S, Heartbeat, write_heartbeat
from sedd.rundir.layout import RunDir
from tests.launch.conftest import small_experiment
from tests.monitor.terminal import Terminal
from tests.slurm.conftest import DevCluster, empty, script
from tests.slurm.test_launch import Start, job_of, preempt, start, wait_for_word
from tests.slurm.test_users import User, somebody

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]
__all__ = ["start"]  # the fixture

WHOLE_CLUSTER = {"nodes": 4, "gpus_per_node": 4, "processes_per_node": 1, "memory": "1GiB"}


def look(*runs: RunDir, gatherer: Gatherer | None = None) -> Snapshot:
    return take_snapshot((gatherer or Gatherer()).gather(runs, now=dt.datetime.now(dt.UTC)))


def wait_until_seen(run: RunDir, fits: Callable[[RunView], bool], *, timeout_s: float = 90) -> RunView:
    deadline = time.monotonic() + timeout_s
    while True:
        (view,) = look(run).runs
        if fits(view):
            return view
        assert time.monotonic() < deadline, view
        time.sleep(0.5)


def test_a_run_that_waits_says_why_and_until_when(devcluster: DevCluster, start: Start) -> None:
    devcluster.submit("sleep 300", "--nodes=4", "--exclusive", "--time=10")
    (run,) = start(small_experiment(resources=WHOLE_CLUSTER))
    view = wait_until_seen(run, lambda v: "starts in" in v.why)
    assert view.state is State.QUEUED
    assert view.why.startswith(("Resources", "Priority"))


def test_a_preempted_run_is_requeued_and_its_cause_counted(devcluster: DevCluster, start: Start) -> None:
    (run,) = start(plan="endless train")
    wait_for_word(run, "attempt_started")
    wait_until_seen(run, lambda v: v.nodes.startswith("v100-"))
    preempt(devcluster, run)
    view = wait_until_seen(run, lambda v: v.state is State.REQUEUED)
    assert "after a preemption" in view.why
    assert view.causes == {Cause.PREEMPTED: 1}


def test_scancel_is_seen_and_an_array_is_one_question(devcluster: DevCluster, start: Start) -> None:
    points = [small_experiment(resources=WHOLE_CLUSTER | {"nodes": 1}, seed=k) for k in range(3)]
    runs = start(*points, plan="endless train")
    for run in runs:
        wait_for_word(run, "attempt_started")
    scancel([own_job(job_of(runs[1]))])
    wait_until_seen(runs[1], lambda v: v.state is State.CANCELLED)
    asked: list[object] = []
    whole = Queue()
    query = whole._squeue  # what the product asks, counted
    counting = Queue(squeue=lambda users: asked.append(users) or query(users))  # type: ignore[func-returns-value]
    seen = look(*runs, gatherer=Gatherer(queue=counting)).runs
    assert [v.state is State.CANCELLED for v in seen] == [False, True, False]
    assert len(asked) == 1


def beat(run: RunDir, *, ago_s: float = 0) -> None:
    """A heartbeat, which the stand-in for training does not write."""
    moment = (dt.datetime.now(dt.UTC) - dt.timedelta(seconds=ago_s)).isoformat()
    known = {"attempt": 1, "phase": "training", "step": 7, "steps": 40, "host": "node-of-its-own"}
    write_heartbeat(run.heartbeat, Heartbeat(t=moment, progress_t=moment, **known))


def test_a_job_that_runs_without_a_heartbeat_is_stalled(devcluster: DevCluster, start: Start) -> None:
    (run,) = start(plan="endless train")
    wait_for_word(run, "attempt_started")
    wait_until_seen(run, lambda v: v.nodes.startswith("v100-"))
    beat(run, ago_s=2 * STALE_S)
    view = wait_until_seen(run, lambda v: v.state is State.STALLED)
    assert "no heartbeat for 2m" in view.why
    beat(run)
    assert wait_until_seen(run, lambda v: v.state is State.RUNNING).step == 7


@contextlib.contextmanager
def silent(cluster: DevCluster, how: str) -> Iterator[None]:
    """A slurmctld that does not answer: `hung` takes connections and says nothing, `gone` takes none."""
    pid = int((cluster.folder / "run" / "slurmctld.pid").read_text())
    if how == "gone":
        assert script("daemon.sh", "stop", "slurmctld", cluster.folder).returncode == 0
        yield
        assert script("up.sh", cluster.folder).returncode == 0
        return
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def both(devcluster: DevCluster, start: Start) -> tuple[RunDir, RunDir]:
    """A run that trains on all nodes, and one that waits for them."""
    (running,) = start(small_experiment(resources=WHOLE_CLUSTER), plan="endless train")
    wait_for_word(running, "attempt_started")
    (waiting,) = start(small_experiment(resources=WHOLE_CLUSTER, seed=2), plan="endless train")
    wait_until_seen(waiting, lambda v: v.why.startswith(("Resources", "Priority")))
    beat(running)
    return running, waiting


@pytest.mark.parametrize("how", ["hung", "gone"])
def test_while_slurm_is_silent_what_it_said_stays_and_since_when_is_said(
    devcluster: DevCluster, both: tuple[RunDir, RunDir], how: str
) -> None:
    clock = iter(range(0, 10**6, 1000))  # at every look the next question is due
    queue = Queue(squeue=lambda users: query_squeue(users, timeout_s=3), clock=lambda: float(next(clock)))
    gatherer = Gatherer(queue=queue)
    before = look(*both, gatherer=gatherer)
    with silent(devcluster, how):
        beat(both[0])
        first, second = (look(*both, gatherer=gatherer) for _ in range(2))
        typed = subprocess.run(
            [sys.executable, "-m", "sedd", "status", *(str(run.path) for run in both)],
            env=os.environ | {"COLUMNS": "120"},
            capture_output=True,
            text=True,
            timeout=300,
        )
    assert before.queue.down_since is None
    for seen in (first, second):
        assert seen.queue.down_since == first.taken, "since when, not since the last try"
        assert seen.queue.error
        assert seen.queue.asked == before.queue.asked
        assert [v.state for v in seen.runs] == [State.RUNNING, State.QUEUED]
        assert [v.nodes for v in seen.runs] == [v.nodes for v in before.runs] == ["v100-[1-4]", ""]
        assert seen.runs[1].why.startswith(("Resources", "Priority"))
    # A first look has no memory: the heartbeat is a fact, the queue is not known.
    assert typed.returncode == 0, typed.stderr
    states = [line.split()[1] for line in typed.stdout.splitlines() if line.strip().startswith("2026")]
    assert sorted(states) == ["queued", "running"], typed.stdout
    assert "SLURM does not answer: squeue" in typed.stdout
    after = look(*both, gatherer=gatherer)
    assert after.queue.down_since is None


def test_watch_says_since_when_slurm_is_silent_keeps_its_answers_and_recovers(
    devcluster: DevCluster, both: tuple[RunDir, RunDir]
) -> None:
    terminal = Terminal(both[0].path.parents[1], path=os.environ["PATH"])
    try:
        assert terminal.until("running", "queued", "starts in"), terminal.screen
        with silent(devcluster, "hung"):
            # Asked every 10 s; squeue is given up after 10 s more.
            assert terminal.until("SLURM does not answer since"), terminal.screen
            beat(both[0])
            assert terminal.until("running", "queued", "SLURM does not answer since", "starts in"), (
                terminal.screen
            )
        beat(both[0])
        assert terminal.until("running", "queued", without="does not answer"), terminal.screen
    finally:
        terminal.close()


@pytest.fixture
def shared(devcluster: DevCluster) -> Iterator[Path]:
    """A folder of root's that everybody may read; pytest's own are closed to others."""
    folder = devcluster.folder.with_name(f"{devcluster.folder.name}-shared")
    folder.mkdir(mode=0o755)
    yield folder
    empty(devcluster)  # nobody writes any more
    shutil.rmtree(folder)


@pytest.fixture
def reader(devcluster: DevCluster) -> Iterator[User]:
    with somebody(devcluster) as user:
        yield user


def seen_by(reader: User, *runs: RunDir) -> list[dict[str, object]]:
    """What `sedd status --json` tells somebody else."""
    done = reader.sedd("status", "--json", *(run.path for run in runs))
    assert done.returncode == 0, done.stderr
    told: list[dict[str, object]] = json.loads(done.stdout)["runs"]
    return told


def in_training(start: Start, folder: Path, count: int) -> list[RunDir]:
    """Runs that train, each on a node of its own."""
    node = WHOLE_CLUSTER | {"nodes": 1}
    points = [small_experiment(resources=node, seed=k) for k in range(count)]
    runs = [run for point in points for run in start(point, plan="endless train", folder=folder)]
    for run in runs:
        wait_for_word(run, "attempt_started")
        beat(run)
    return runs


def test_another_user_sees_what_is_going_on_as_far_as_files_may_be_read(
    devcluster: DevCluster, start: Start, shared: Path, reader: User
) -> None:
    _, no_events, no_beat = runs = in_training(start, shared, 3)
    (waiting,) = start(small_experiment(resources=WHOLE_CLUSTER), folder=shared)
    wait_until_seen(waiting, lambda v: v.why.startswith(("Resources", "Priority")))
    no_events.events.chmod(0o600)
    no_beat.heartbeat.chmod(0o600)
    told = seen_by(reader, *runs, waiting)
    assert [t["state"] for t in told] == ["running", "running", "preflight", "queued"]
    assert [t["unreadable"] for t in told] == [
        [],
        ["events.jsonl: Permission denied"],
        ["heartbeat.json: Permission denied"],
        [],
    ]
    assert [str(t["nodes"])[:5] for t in told] == ["v100-", "node-", "v100-", ""]
    assert str(told[3]["why"]).startswith(("Resources", "Priority"))
    table = reader.sedd("status", *(run.path for run in runs))
    assert (table.returncode, table.stderr) == (0, "")
    assert "events.jsonl: Permission denied" in table.stdout
    for run in runs:
        page = reader.sedd("status", run.path)
        assert (page.returncode, page.stderr) == (0, "")
        assert reader.sedd("report", run.path, "-o", reader.home / "page.html", "--force").returncode == 0
    # What is readable and old is silence; what is not readable is none.
    for run in runs:
        beat(run, ago_s=2 * STALE_S)
    no_beat.heartbeat.chmod(0o600)
    assert [t["state"] for t in seen_by(reader, *runs)] == ["stalled", "unknown", "preflight"]


def test_where_slurm_hides_jobs_another_users_runs_are_not_lost(
    devcluster: DevCluster, start: Start, shared: Path, reader: User
) -> None:
    fresh, old = runs = in_training(start, shared, 2)
    (waiting,) = start(small_experiment(resources=WHOLE_CLUSTER), folder=shared)
    wait_until_seen(waiting, lambda v: v.why.startswith(("Resources", "Priority")))
    runs = [fresh, old, waiting]
    devcluster.switch("private-jobs", "on")
    try:
        assert wait_until(lambda: sees_no_job(reader), timeout_s=120), "the switch takes a moment"
        beat(old, ago_s=2 * STALE_S)
        age_events(waiting, ago_s=2 * STALE_S)
        told = seen_by(reader, *runs)
        assert [t["state"] for t in told] == ["running", "stalled", "queued"]
        assert told[0]["why"] == ""
        assert str(told[1]["why"]).endswith("SLURM hides its job from others")
        assert told[2]["why"] == "SLURM hides its job from others"
        refused = reader.sedd("requeue", fresh.path)
        assert refused.returncode == 1
        assert "who alone may change it" in refused.stderr
        assert [v.state for v in look(*runs).runs] == [State.RUNNING, State.STALLED, State.QUEUED]
    finally:
        devcluster.switch("private-jobs", "off")
    assert wait_until(lambda: not sees_no_job(reader), timeout_s=120)
    assert str(seen_by(reader, waiting)[0]["why"]).startswith(("Resources", "Priority"))


def sees_no_job(reader: User) -> bool:
    asked = reader.runs("-c", "import os; os.execvp('squeue', ['squeue', '--noheader'])")
    return (asked.returncode, asked.stdout) == (0, "")


def age_events(run: RunDir, *, ago_s: float) -> None:
    """Make a run's events older than they are: what was said a moment ago is taken for granted."""
    lines = [json.loads(line) for line in run.events.read_text().splitlines()]
    moved = [
        line | {"t": (dt.datetime.fromisoformat(line["t"]) - dt.timedelta(seconds=ago_s)).isoformat()}
        for line in lines
    ]
    run.events.write_text("".join(json.dumps(line) + "\n" for line in moved))
