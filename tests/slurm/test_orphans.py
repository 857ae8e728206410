"""A run folder that is deleted while its job waits: `sedd status` tells, `sedd cancel JOBID` ends it, nothing else."""

import shutil
import subprocess
import sys

import pytest

from sedd.cluster.states import JobState
from sedd.rundir.events import read_events
from tests.launch.conftest import small_experiment
from tests.slurm.conftest import DevCluster
from tests.slurm.test_launch import Start, start

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]
__all__ = ["start"]  # the fixture

WHOLE_CLUSTER = {"nodes": 4, "gpus_per_node": 4, "processes_per_node": 1, "memory": "1GiB"}


def sedd(*arguments: str, root: object) -> subprocess.CompletedProcess[str]:
    command = ["env", f"SEDD_RUNS={root}", sys.executable, "-m", "sedd", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


def test_a_job_without_a_folder_is_listed_and_ended_and_a_strangers_is_not(
    devcluster: DevCluster, start: Start
) -> None:
    stranger = devcluster.submit("sleep 300", "--nodes=4", "--exclusive", "--time=10", "--job-name=mine")
    (run,) = start(small_experiment(resources=WHOLE_CLUSTER))
    job_id = next(str(e.get("job_id")) for e in read_events(run.events) if e.event == "submitted")
    root = run.path.parents[1]
    assert "belongs to no run folder" not in sedd("status", root=root).stdout
    shutil.rmtree(run.path)
    shown = sedd("status", root=root).stdout
    assert f"job {job_id} (small) belongs to no run folder: {run.path} is gone" in shown
    assert f"job {stranger}" not in shown
    done = sedd("cancel", job_id, root=root)
    assert (done.returncode, done.stdout) == (
        0,
        f"job {job_id}: cancelled; it belonged to no run folder: {run.path} is gone\n",
    )
    devcluster.wait(job_id, lambda job: job.state is JobState.CANCELLED)
    refused = sedd("cancel", stranger, root=root)
    assert refused.returncode == 1
    assert "was not submitted by sedd" in refused.stderr
    devcluster.wait(stranger, lambda job: job.state is JobState.RUNNING)
    assert sedd("cancel", "9999", root=root).returncode == 2
