"""Trainings that do not end when their time is up, on a real SLURM that gives them 10 to 20 seconds: no run is lost."""

import os
import signal
from pathlib import Path

import pytest

from sedd.cluster import command
from sedd.cluster.scontrol import query_job
from sedd.launch.local_processes import wait_until
from sedd.rundir.attempts import parse_attempts
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir
from tests.launch.conftest import logs_of, small_experiment, story, wait_for_event, wait_for_steps
from tests.slurm.conftest import DevCluster
from tests.slurm.test_launch import (
    WHOLE_NODE,
    Start,
    assert_nothing_was_repeated,
    entry_pid,
    job_of,
    preempt,
    start,
    training_pid,
    wait_for_word,
)

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]
__all__ = ["start"]  # the fixture

WITHOUT_REQUEUE = ("cancel", "nograce")
"""Partitions in which preempted jobs are not requeued by SLURM itself, or get no time to save."""
ONE_MINUTE = WHOLE_NODE | {"walltime": "1m"}


def jobs_of(run: RunDir) -> list[str]:
    """The job of each attempt."""
    return [str(e.get("job_id")) for e in read_events(run.events) if e.event == "attempt_started"]


def batch_end_waits(run: RunDir) -> bool:
    """Whether the batch script's last line is at work."""
    lines = (path.read_bytes().split(b"\0") for path in Path("/proc").glob("[0-9]*/cmdline"))
    return any(b"sedd.job.batch_end" in line and str(run.submitit).encode() in line for line in lines)


def test_a_training_that_hangs_after_its_save_goes_on_after_a_preemption(
    devcluster: DevCluster, start: Start
) -> None:
    runs = [start(plan="stuck train", partition=partition)[0] for partition in WITHOUT_REQUEUE]
    for run in runs:
        wait_for_steps(run, 10)
        preempt(devcluster, run)
    for run in runs:
        wait_for_word(run, "completed")
        assert "requeued:preempted" in story(run)
        assert_nothing_was_repeated(run)


def test_it_goes_on_in_a_new_job_where_slurm_requeues_nothing(devcluster: DevCluster, start: Start) -> None:
    devcluster.switch("requeue", "off")
    try:
        runs = [
            start(plan="stuck train", partition=partition, requeues=False)[0] for partition in WITHOUT_REQUEUE
        ]
        for run in runs:
            wait_for_steps(run, 10)
            command.run(["scontrol", "update", f"JobId={job_of(run)}", "Requeue=0"])
            preempt(devcluster, run)
        for run in runs:
            wait_for_word(run, "completed")
    finally:
        devcluster.switch("requeue", "on")
    for run in runs:
        assert "requeued:preempted" in story(run)
        assert_nothing_was_repeated(run)
        first, second = jobs_of(run)
        assert first != second


def test_a_time_limit_is_another_pause_whether_a_training_ends_hangs_or_makes_no_step(
    devcluster: DevCluster, start: Start
) -> None:
    """All three at once: SLURM's shortest limit is a minute, and looked at only now and then."""
    policy = {"without_progress": 1}
    (ends,) = start(small_experiment(resources=WHOLE_NODE | {"walltime": "2m"}), plan="endless train")
    (hangs,) = start(small_experiment(resources=ONE_MINUTE), plan="stuck train")
    (frozen,) = start(small_experiment(resources=ONE_MINUTE, retry=policy), plan="frozen")
    for run in (ends, hangs):
        wait_for_word(run, "completed", timeout_s=360)
        assert "requeued:time_limit" in story(run)
        assert_nothing_was_repeated(run)
    wait_for_word(frozen, "gave_up", timeout_s=360)
    assert story(frozen) == [
        "submitted",
        "attempt_started",
        "requeued:time_limit",
        "attempt_started",
        "gave_up:time_limit",
    ], logs_of(frozen)
    assert "saved no new step" in read_events(frozen.events)[-1].get("detail")


def test_a_preemption_that_follows_the_death_of_the_entry_does_not_lose_the_run(
    devcluster: DevCluster, start: Start
) -> None:
    """The batch script waits for a training that does not end, and nobody passes SLURM's signals on."""
    (run,) = start(plan="frozen train", partition="cancel")
    wait_for_event(run, "attempt_started", timeout_s=180)
    pid = training_pid(run, rank=0)
    os.kill(entry_pid(run), signal.SIGKILL)
    assert wait_until(lambda: batch_end_waits(run), timeout_s=180)
    preempt(devcluster, run)
    wait_for_word(run, "completed")
    assert not os.path.exists(f"/proc/{pid}")
    assert len(parse_attempts(read_events(run.events))) == 2, story(run)
    job = query_job(job_of(run))
    assert job is None or job.restarts == 1
