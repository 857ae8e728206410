from dataclasses import replace
from datetime import UTC, datetime

import pytest

from sedd.cluster.jobs import JobFact
from sedd.cluster.scontrol import parse_jobs
from sedd.cluster.states import JobState
from sedd.cluster.stopping import Stopping, stopping
from tests.cluster.recorded import RECORDED, sample

RUNNING = JobFact(job_id="7", state=JobState.RUNNING, restarts=0)
COMPLETING = replace(RUNNING, state=JobState.COMPLETING)
NOTICE = datetime(2025, 3, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("job", "why"),
    [
        (RUNNING, Stopping.NO),
        (replace(RUNNING, preempted_at=NOTICE), Stopping.PREEMPTED),
        (COMPLETING, Stopping.CANCELLED),
        (replace(COMPLETING, reason="TimeLimit"), Stopping.TIME_LIMIT),
        (replace(COMPLETING, preempted_at=NOTICE), Stopping.PREEMPTED),
        (replace(COMPLETING, restarts=1), Stopping.REQUEUED),
        (replace(RUNNING, restarts=1), Stopping.REQUEUED),
        (replace(RUNNING, state=JobState.PENDING), Stopping.REQUEUED),
        (replace(RUNNING, state=JobState.CANCELLED), Stopping.CANCELLED),
        (replace(RUNNING, state=JobState.TIMEOUT), Stopping.TIME_LIMIT),
    ],
)
def test_why_a_first_attempt_is_stopped(job: JobFact, why: Stopping) -> None:
    assert stopping(job, restarts=0) is why


def test_restarts_of_earlier_attempts_are_not_this_ones() -> None:
    assert stopping(replace(COMPLETING, restarts=3), restarts=3) is Stopping.CANCELLED
    assert stopping(replace(COMPLETING, restarts=4), restarts=3) is Stopping.REQUEUED


@pytest.mark.parametrize("version", RECORDED)
def test_recorded_jobs_that_a_user_cancelled_and_requeued_are_told_apart(version: str) -> None:
    jobs = {job.name: job for job in parse_jobs(sample(version, "jobs"))}
    assert stopping(jobs["user_cancels"], restarts=0) is Stopping.CANCELLED
    assert stopping(jobs["user_requeues"], restarts=0) is Stopping.REQUEUED
    assert stopping(jobs["preempted"], restarts=0) is Stopping.PREEMPTED
    assert stopping(jobs["cancelmode"], restarts=0) is Stopping.PREEMPTED
