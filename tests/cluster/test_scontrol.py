from pathlib import Path

import pytest

from sedd.cluster.command import SlurmMissingError
from sedd.cluster.scontrol import parse_jobs, query_jobs
from sedd.cluster.states import JobState
from sedd.errors import ClusterError
from tests.cluster.recorded import COMPOSED, RECORDED, sample


@pytest.mark.parametrize("version", RECORDED)
def test_recorded_jobs(version: str) -> None:
    jobs = {job.job_id: job for job in parse_jobs(sample(version, "jobs"))}
    assert set(jobs) == {"1", "2_0", "2_1", "2_2", "2_3", "2_4", *map(str, range(3, 11)), "12", "13"}
    assert (jobs["2_0"].slurm_id, jobs["2_0"].state) == ("11", JobState.RUNNING)
    assert (jobs["4"].state, jobs["4"].exit_code) == (JobState.FAILED, 3)
    assert jobs["1"].exit_code is None
    assert jobs["6"].preempted_at is not None
    assert jobs["1"].preempted_at is None
    assert (jobs["9"].state, jobs["9"].restarts) == (JobState.COMPLETING, 1)
    assert jobs["1"].may_requeue is True
    assert jobs["1"].user == "root"


@pytest.mark.parametrize("version", RECORDED)
def test_a_job_name_cannot_speak_for_slurm(version: str) -> None:
    jobs = {job.job_id: job for job in parse_jobs(sample(version, "jobs"))}
    assert jobs["1"].name == "esm big|small JobState=FAILED β"
    assert jobs["1"].state is JobState.RUNNING


@pytest.mark.parametrize("version", COMPOSED)
def test_the_same_jobs_read_the_same_in_every_version(version: str) -> None:
    jobs = {job.job_id: job for job in parse_jobs(sample(version, "jobs"))}
    assert list(jobs) == ["501", "500_0", "500_1", "500_2", "500_5", "502"]
    running, ending, waiting, failed = jobs["501"], jobs["500_0"], jobs["500_5"], jobs["502"]
    assert (running.state, running.restarts, running.nodes) == (JobState.RUNNING, 2, "gpu[1-2]")
    assert running.preempted_at is not None
    assert running.time_limit_s == 86400
    assert (running.user, running.partition) == ("ada", "gpu")
    assert (ending.state, ending.reason) == (JobState.COMPLETING, "TimeLimit")
    assert ending.preempted_at is None
    assert (waiting.state, waiting.nodes, waiting.starts_at) == (JobState.PENDING, None, None)
    assert waiting.may_requeue is False
    assert (failed.state, failed.exit_code, failed.exit_signal) == (JobState.FAILED, 1, 0)
    assert failed.ended_at is not None


def test_no_text_is_no_jobs() -> None:
    assert parse_jobs("") == []
    assert parse_jobs("No jobs in the system\n") == []


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", []),
        ("echo 'Job 9_3 not found'; exit 1", []),
        ("echo 'scontrol: error: plugin not found' >&2; exit 1", ClusterError),
        (None, SlurmMissingError),
    ],
)
def test_a_job_is_forgotten_when_slurm_says_so_and_not_when_something_else_is_not_found(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    script: str | None,
    expected: list[object] | type[Exception],
) -> None:
    if script is not None:
        (tmp_path / "scontrol").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin" if script else str(tmp_path))
    if isinstance(expected, list):
        assert query_jobs("9") == expected
    else:
        with pytest.raises(expected):
            query_jobs("9")
