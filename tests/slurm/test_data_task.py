"""`task: data` on a real SLURM: cancelled, preempted, killed while it builds. Never half a store, never a leftover."""

import datetime as dt
import gzip
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from sedd.cluster.control import scancel
from sedd.cluster.identity import own_job
from sedd.cluster.jobs import JobFact
from sedd.cluster.profile import SlurmProfile
from sedd.cluster.scontrol import query_job
from sedd.cluster.states import JobState
from sedd.data.store import TokenStore
from sedd.launch.cancel import cancel
from sedd.launch.local_processes import wait_until
from sedd.launch.make_runs import make_runs
from sedd.launch.resources import slurm_parameters
from sedd.launch.submit_slurm import submit_slurm
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir
from sedd.spec.build import DataTask
from tests.launch.conftest import logs_of, order_for, story
from tests.slurm.conftest import DevCluster
from tests.slurm.test_launch import job_of, wait_for_word
from tests.tiny import PROTEINS

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

NOW = dt.datetime.now(dt.UTC)
LONG, SHORT = 600, 60
"""Times that the same 60 MB are read: some minute, some seconds."""
KEPT = 4000
"""Residues; few proteins are longer: what is dropped takes time and no disk."""
Start = Callable[..., RunDir]


@pytest.fixture
def start(devcluster: DevCluster, tmp_path: Path) -> Start:
    """Submit a data task that reads for a while, and wait until it has begun to build."""
    source = tmp_path / "proteins.fasta"
    source.write_bytes(gzip.decompress(PROTEINS.read_bytes()) * 60)

    def submit(times: int, *, partition: str = "requeue") -> RunDir:
        task = DataTask.model_validate(
            {
                "name": "build",
                "task": "data",
                "build": {
                    "inputs": [str(source)] * times,
                    "store": str(store_of(tmp_path)),
                    "min_length": KEPT,
                },
                "resources": {"cpus_per_process": 2, "memory": "1GiB", "walltime": "10m"},
            }
        )
        profile = SlurmProfile.model_validate(
            {"executor": "slurm", "partition": partition, "gpu": {"type": "v100"}}
        )
        batch = make_runs(order_for(task, runs=tmp_path / "my runs", profile=profile), now=NOW, made=[])
        code, submitit = batch.folder / "code", batch.folder / "submitit"
        submit_slurm(
            batch.runs, slurm_parameters(task, profile, code=code, submitit=submitit), folder=submitit
        )
        (run,) = batch.runs
        assert wait_until(lambda: bool(half_built(tmp_path)), timeout_s=120), logs_of(run)
        return run

    return submit


def store_of(folder: Path) -> Path:
    return folder / "stores" / "made.store"


def half_built(folder: Path) -> list[str]:
    """Names of what lies beside the store, or would."""
    return sorted(path.name for path in store_of(folder).parent.glob(".*"))


def processes_of(run: RunDir) -> list[int]:
    """All that run the run's frozen code, the build's helpers among them."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and str(run.path.parent).encode() in (entry / "environ").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def worker_of(run: RunDir) -> int:
    """The process that builds."""
    for pid in processes_of(run):
        try:
            if b"sedd.job.worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
        except OSError:
            continue
    raise AssertionError(f"nobody builds:\n{logs_of(run)}")


def ends(state: JobState) -> Callable[[JobFact], bool]:
    return lambda job: job.state is state


def assert_nothing_is_left(run: RunDir, folder: Path) -> None:
    assert half_built(folder) == []
    assert wait_until(lambda: processes_of(run) == [], timeout_s=60), processes_of(run)


def by_sedd(run: RunDir) -> None:
    (result,) = cancel([run], now=NOW)
    assert result.changed


def by_scancel(run: RunDir) -> None:
    scancel([own_job(job_of(run))])


@pytest.mark.parametrize("end", [by_sedd, by_scancel])
def test_a_running_build_that_is_cancelled_leaves_nothing(
    devcluster: DevCluster, start: Start, tmp_path: Path, end: Callable[[RunDir], None]
) -> None:
    run = start(LONG)
    assert wait_until(lambda: len(processes_of(run)) >= 2, timeout_s=120)
    end(run)
    wait_for_word(run, "cancelled")
    devcluster.wait(job_of(run), ends(JobState.CANCELLED))
    assert_nothing_is_left(run, tmp_path)
    assert not store_of(tmp_path).exists()
    assert story(run).count("attempt_started") == 1
    assert not {"requeued", "failed", "gave_up"} & {event.event for event in read_events(run.events)}


@pytest.mark.parametrize("partition", ["requeue", "nograce"])
def test_a_preempted_build_starts_again_and_completes(
    devcluster: DevCluster, start: Start, tmp_path: Path, partition: str
) -> None:
    run = start(SHORT, partition=partition)
    job = query_job(job_of(run))
    assert job is not None
    devcluster.submit("sleep 2", "--partition=urgent", "--exclusive", "--time=10", f"--nodelist={job.nodes}")
    wait_for_word(run, "requeued", timeout_s=180)
    assert not store_of(tmp_path).exists()
    wait_for_word(run, "completed")
    assert story(run) == [
        "submitted",
        "attempt_started",
        "requeued:preempted",
        "attempt_started",
        "completed",
    ]
    assert TokenStore.open(store_of(tmp_path)).manifest.tally["records"] == SHORT * 60 * 2000
    assert_nothing_is_left(run, tmp_path)


def test_what_a_killed_build_leaves_is_removed_by_the_next_attempt(
    devcluster: DevCluster, start: Start, tmp_path: Path
) -> None:
    run = start(SHORT)
    left = half_built(tmp_path)
    os.kill(worker_of(run), signal.SIGKILL)
    wait_for_word(run, "requeued")
    assert half_built(tmp_path) == left
    assert not store_of(tmp_path).exists()
    wait_for_word(run, "completed")
    assert TokenStore.open(store_of(tmp_path)).manifest.tally["records"] == SHORT * 60 * 2000
    assert_nothing_is_left(run, tmp_path)
