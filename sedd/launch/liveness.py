"""Is anything of a run under way, wherever it runs? What `cancel` and `requeue` must know before they act."""

import os
import socket
from dataclasses import dataclass
from enum import StrEnum

from sedd.cluster.jobs import JobFact
from sedd.cluster.local import find_local
from sedd.cluster.scontrol import query_job
from sedd.cluster.site import query_config
from sedd.errors import RunError
from sedd.launch.local_processes import find_members
from sedd.rundir.attempts import is_cancelled, parse_attempts
from sedd.rundir.events import Event, read_events
from sedd.rundir.layout import RunDir


class RunStatus(StrEnum):
    """Where a run stands."""

    COMPLETED = "completed"
    WAITING = "waiting"
    """SLURM has its job in the queue."""
    RUNNING = "running"
    """Processes of it are, or may be, alive."""
    OVER = "over"
    """Nothing of it is alive, and it is not completed: cancelled, given up, or killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSituation:
    """A run, its last word and its job."""

    run: RunDir
    standing: RunStatus
    executor: str
    job_id: str
    attempt: int
    cancelled: bool
    last: str
    """Newest event that says more than that a checkpoint was written."""
    job: JobFact | None = None
    """What SLURM says of the job; None under the local executor, and for a job that SLURM has forgotten."""


def query_run_status(run: RunDir) -> RunSituation:
    """Find out where a run stands.

    Raises:
        RunError: it is a local run of another machine, was never submitted, or its job is hidden from us.
        ClusterError: SLURM does not answer.
    """
    said = read_events(run.events)
    submission = next((e for e in reversed(said) if e.event == "submitted"), None)
    if submission is None:
        raise RunError(f"run {run.id} was never submitted")
    started = next((e for e in reversed(said) if e.event == "attempt_started"), submission)
    moves = [e.event for e in said if e.event not in ("preflight", "checkpoint")]
    executor, is_completed = str(submission.get("executor")), "completed" in moves
    is_asked = executor == "slurm" and not is_completed
    job = _require_shown(run, str(submission.get("job_id"))) if is_asked else None
    return RunSituation(
        run=run,
        standing=_standing(run, submission, started, job, is_completed=is_completed),
        job=job,
        executor=executor,
        job_id=str(submission.get("job_id")),
        attempt=max(e.attempt for e in said),
        cancelled=is_cancelled(said),
        last=moves[-1],
    )


def _require_shown(run: RunDir, job_id: str) -> JobFact | None:
    """The run's job, None when SLURM has forgotten it. Raises: RunError when SLURM would not show it to us."""
    job = query_job(job_id)
    owner, we = run.path.stat().st_uid, os.geteuid()
    is_ours = we in (0, owner)
    if job is None and not is_ours and query_config().hides_jobs(owner_uid=owner, from_uid=we):
        raise RunError(
            f"run {run.id} is another user's, and SLURM hides its job {job_id} from you (PrivateData)",
            hint="only they can cancel or requeue it",
        )
    return job


def _standing(
    run: RunDir, submission: Event, started: Event, job: JobFact | None, *, is_completed: bool
) -> RunStatus:
    if is_completed:
        return RunStatus.COMPLETED
    if "foreground" in (started.get("executor"), submission.get("executor")):
        _require_ended(run)
    if submission.get("executor") == "slurm":
        return _slurm_standing(job)
    if submission.get("executor") == "foreground":
        return RunStatus.OVER
    host = submission.get("host")
    if host != socket.gethostname():
        raise RunError(
            f"run {run.id} is a local run of {host}", hint=f"log in to {host} and repeat the command there"
        )
    return RunStatus.RUNNING if find_members(run) else RunStatus.OVER


def _require_ended(run: RunDir) -> None:
    """A run of `sedd train` belongs to its terminal: only when it has ended is it anybody else's. Raises: RunError."""
    attempt = next(iter(reversed(parse_attempts(read_events(run.events)))), None)
    if attempt is None or attempt.cause is not None:
        return
    if attempt.host == socket.gethostname() and find_local(attempt.pid) is None:
        return
    raise RunError(
        f"run {run.id} trains in the foreground: process {attempt.pid} on {attempt.host}",
        hint="Ctrl-C there saves and ends it",
    )


def _slurm_standing(job: JobFact | None) -> RunStatus:
    if job is None or job.state.is_final:
        return RunStatus.OVER
    return RunStatus.WAITING if job.state.is_waiting else RunStatus.RUNNING
