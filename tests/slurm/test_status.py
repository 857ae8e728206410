"""What `sedd status` says of runs on a real SLURM: waiting, preempted, stopped, without an answer, cancelled."""

import datetime as dt
import time
from collections.abc import Callable

import pytest

from sedd.cluster.control import scancel
from sedd.monitor.gather import Gatherer
from sedd.monitor.queue import Queue
from sedd.monitor.snapshot import RunView, Snapshot, take_snapshot
from sedd.monitor.state import State
from sedd.rundir.attempts import Cause
from sedd.rundir.heartbeat import STALE_S, Heartbeat, write_heartbeat
from sedd.rundir.layout import RunDir
from tests.launch.conftest import small_experiment
from tests.slurm.conftest import DevCluster
from tests.slurm.test_launch import Start, job_of, preempt, start, wait_for_word

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(300)]
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
    scancel([job_of(runs[1])])
    wait_until_seen(runs[1], lambda v: v.state is State.CANCELLED)
    asked: list[object] = []
    whole = Queue()
    query = whole._squeue  # what the product asks, counted
    counting = Queue(squeue=lambda users: asked.append(users) or query(users))  # type: ignore[func-returns-value]
    seen = look(*runs, gatherer=Gatherer(queue=counting)).runs
    assert [v.state is State.CANCELLED for v in seen] == [False, True, False]
    assert len(asked) == 1


def test_a_job_that_runs_without_a_heartbeat_is_stalled(devcluster: DevCluster, start: Start) -> None:
    (run,) = start(plan="endless train")
    wait_for_word(run, "attempt_started")
    wait_until_seen(run, lambda v: v.nodes.startswith("v100-"))

    def beat(ago_s: float) -> None:
        moment = (dt.datetime.now(dt.UTC) - dt.timedelta(seconds=ago_s)).isoformat()
        known = {"attempt": 1, "phase": "training", "step": 7, "steps": 40}
        write_heartbeat(run.heartbeat, Heartbeat(t=moment, progress_t=moment, **known))

    beat(2 * STALE_S)
    view = wait_until_seen(run, lambda v: v.state is State.STALLED)
    assert "no heartbeat for 2m" in view.why
    beat(0)
    assert wait_until_seen(run, lambda v: v.state is State.RUNNING).step == 7
