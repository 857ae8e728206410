"""Runs that the code before the move into two rooms submitted to a real SLURM: today's code acts on them."""

import datetime as dt
from pathlib import Path

import pytest

from sedd.cluster.control import scancel
from sedd.cluster.identity import own_job
from sedd.cluster.states import JobState
from sedd.launch.cancel import cancel
from sedd.launch.requeue import requeue
from sedd.rundir.layout import RunDir
from tests.format_1 import OldSedd
from tests.launch.conftest import logs_of, story, wait_for_event
from tests.slurm.conftest import DevCluster
from tests.slurm.test_launch import is_, job_of, wait_for_word
from tests.training.test_resume import assert_same_end

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

NOW = dt.datetime.now(dt.UTC)
SITE = {"executor": "slurm", "partition": "requeue", "gpu": {"type": "v100"}, "wandb": "disabled"}
STEPS = 300
CPU = {"gpus_per_node": 0, "cpus_per_process": 1, "memory": "1GiB", "walltime": "1h"}


def take_node_of(cluster: DevCluster, run: RunDir) -> None:
    """An urgent job preempts the run's."""
    node = cluster.wait(job_of(run), is_(JobState.RUNNING)).nodes
    cluster.submit("sleep 2", "--partition=urgent", "--exclusive", f"--nodelist={node}", "--time=10")


def test_jobs_of_format_1_are_moved_cancelled_revived_and_end_with_the_same_bits(
    devcluster: DevCluster, tmp_path: Path
) -> None:
    old = OldSedd(tmp_path)
    (queued,) = old.submit(SITE | {"sbatch": {"begin": "now+1hour"}}, steps=STEPS, resources=CPU)
    undisturbed, moved, revived = (old.submit(SITE, steps=STEPS, resources=CPU)[0] for _ in range(3))
    assert cancel([queued], now=NOW)[0].changed
    devcluster.wait(job_of(queued), is_(JobState.CANCELLED))
    assert requeue([queued], now=NOW)[0].changed
    devcluster.wait(job_of(queued), is_(JobState.PENDING))

    wait_for_event(moved, "checkpoint", timeout_s=120)
    assert requeue([moved], now=NOW)[0].changed
    wait_for_event(revived, "checkpoint", timeout_s=120)
    scancel([own_job(job_of(revived))])
    first = job_of(revived)
    devcluster.wait(first, is_(JobState.CANCELLED))
    assert requeue([revived], now=NOW)[0].changed
    assert job_of(revived) != first
    wait_for_event(revived, "resumed", timeout_s=120)
    take_node_of(devcluster, revived)

    for run in (undisturbed, moved, revived):
        wait_for_word(run, "completed")
    assert story(undisturbed) == ["submitted", "attempt_started", "completed"]
    assert "requeued:moved" in story(moved)
    assert "requeued:preempted" in story(revived), logs_of(revived)
    assert_same_end(undisturbed, moved)
    assert_same_end(undisturbed, revived)
