"""`sedd usage` beside the accounting of a real SLURM: elapsed time × GPUs of every start of the job."""

import datetime as dt
import time

import pytest

from sedd.cluster.command import run as run_command
from sedd.cluster.scontrol import query_job
from sedd.launch.cancel import cancel
from sedd.launch.local_processes import wait_until
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir
from sedd.rundir.read_usage import read_usage
from tests.launch.conftest import story
from tests.slurm.conftest import DevCluster
from tests.slurm.test_launch import Start, job_of, preempt, start, wait_for_word

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]
__all__ = ["start"]  # the fixture

GPUS = 4
SECOND_S = 1.0
"""sacct counts whole seconds; and SLURM takes a moment to start a batch script, and to hear that it has ended."""


def sacct_gpu_s(run: RunDir) -> list[int]:
    """Elapsed × GPUs of every start that has ended of the run's jobs: a second one goes on where a requeue pauses."""
    jobs = ",".join(str(e.get("job_id")) for e in read_events(run.events) if e.event == "submitted")
    command = ["sacct", "--allocations", "--duplicates", "--noheader", "--parsable2", f"--jobs={jobs}"]
    lines = run_command([*command, "--format=ElapsedRaw,End"]).split()
    seconds = [int(line.partition("|")[0]) for line in lines if not line.endswith("Unknown")]
    return [s * GPUS for s in seconds if s]


def test_gpu_hours_are_those_of_sacct(devcluster: DevCluster, start: Start) -> None:
    (run,) = start(plan="endless train")
    wait_for_word(run, "attempt_started")
    time.sleep(60)
    preempt(devcluster, run)
    assert wait_until(lambda: "requeued:preempted" in story(run), timeout_s=180)

    def is_back() -> bool:
        wait_for_word(run, "requeued")
        return story(run).count("attempt_started") == 2

    assert wait_until(is_back, timeout_s=180)
    cancel([run], now=dt.datetime.now(dt.UTC))
    assert wait_until(lambda: (job := query_job(job_of(run))) is None or job.state.is_final, timeout_s=180)
    assert wait_until(lambda: len(sacct_gpu_s(run)) == 2, timeout_s=120)
    expected, found = sacct_gpu_s(run), read_usage(run)
    print(expected, found)
    total = found.within()
    assert total.gpu_s == pytest.approx(sum(expected), rel=0.01, abs=2 * GPUS * SECOND_S)
    assert [use.gpus for use in found.attempts] == [GPUS, GPUS]
    assert total.queued_s > 0
