"""Why a job is being asked to leave: what SLURM shows of it at that moment, read as one word. Pure.

Observed on 22.05.8 and 24.11.5, which show a job as COMPLETING from SIGTERM to its last process, whatever the reason:

| SLURM shows | the reason |
|---|---|
| RUNNING, PreemptTime set | preempted, in its grace time: it ends for good unless it requeues itself |
| any state, restart count raised | requeued: by preemption without grace, by a user, or by a node's failure |
| COMPLETING, Reason=TimeLimit | time limit |
| COMPLETING, PreemptTime set | preempted, grace time over (PreemptMode=CANCEL) |
| COMPLETING, nothing of these | cancelled |
"""

import enum

from sedd.cluster.jobs import JobFact
from sedd.cluster.states import JobState


class Stopping(enum.StrEnum):
    """Why SLURM ends a job, or that it does not."""

    NO = "no"
    PREEMPTED = "preempted"
    REQUEUED = "requeued"
    TIME_LIMIT = "time_limit"
    CANCELLED = "cancelled"


_PLAIN = {
    JobState.CANCELLED: Stopping.CANCELLED,
    JobState.TIMEOUT: Stopping.TIME_LIMIT,
    JobState.PREEMPTED: Stopping.PREEMPTED,
    JobState.PENDING: Stopping.REQUEUED,
    JobState.REQUEUED: Stopping.REQUEUED,
}


def is_held_after_launch(job: JobFact) -> bool:
    """Whether SLURM holds the job because a node failed to launch it; it stays so until somebody releases it."""
    return (job.reason or "").lower().replace("_", " ") == "launch failed requeued held"


def stopping(job: JobFact, *, restarts: int) -> Stopping:
    """Why SLURM ends the attempt that was started with `SLURM_RESTART_COUNT` = `restarts`."""
    if (job.restarts or 0) > restarts:
        return Stopping.REQUEUED
    if job.state in _PLAIN:
        return _PLAIN[job.state]
    if job.preempted_at is not None:
        return Stopping.PREEMPTED
    if job.state is not JobState.COMPLETING:
        return Stopping.NO
    return Stopping.TIME_LIMIT if job.reason == "TimeLimit" else Stopping.CANCELLED
