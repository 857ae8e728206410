"""Is anything of a run under way, wherever it runs? What `cancel` and `requeue` must know before they act."""

import contextlib
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from sedd.cluster.identity import (
    ForeignJobError,
    JobIdentity,
    ProvenJob,
    parse_mark,
    prove_job,
    query_cluster_name,
    read_identity,
)
from sedd.cluster.jobs import JobFact
from sedd.cluster.local import is_process_of
from sedd.cluster.site import query_config
from sedd.cluster.squeue import query_comments
from sedd.errors import ClusterError, RunError
from sedd.launch.local_processes import find_members
from sedd.launch.unconfirmed import submitit_folders
from sedd.rundir.attempts import is_cancelled, is_completed, is_paused, is_stopped, parse_attempts
from sedd.rundir.events import STAYS, Event, read_events, require_undamaged
from sedd.rundir.layout import RunDir


class RunStatus(StrEnum):
    """What state a run is in."""

    COMPLETED = "completed"
    WAITING = "waiting"
    """SLURM has its job in the queue."""
    RUNNING = "running"
    """Processes of it are, or may be, alive."""
    PAUSED = "paused"
    """It waits at a rung of its halving sweep, without a job."""
    STOPPED = "stopped"
    """The rule of its halving sweep has ended it."""
    OVER = "over"
    """Nothing of it is alive, and it is not completed: cancelled, given up, or killed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSituation:
    """A run, its newest event and its job."""

    run: RunDir
    status: RunStatus
    executor: str
    job_id: str
    attempt: int
    cancelled: bool
    last: str
    """Newest event that says more than that a checkpoint was written."""
    job: ProvenJob | None = None
    """The run's job, proven to be its own; None under the local executor, and where another job has its id now."""
    submissions: int = 1
    """How often the run has been submitted."""
    note: str | None = None
    """What a user should know of the job: that another has its id now."""


def query_run_status(run: RunDir) -> RunSituation:
    """Find out what state a run is in.

    Raises:
        RunError: it is a local run of another machine, was never submitted, or its job is hidden from us.
        ClusterError: SLURM does not answer, or the run belongs to another cluster.
    """
    events = read_events(run.events)
    submission = newest_submission(run, events)
    started = next((e for e in reversed(events) if e.event == "attempt_started"), submission)
    moves = [e.event for e in events if e.event not in STAYS]
    executor, known = str(submission.get("executor")), _known_status(events)
    job, note = None, None
    if executor == "slurm" and known is None:
        try:
            job = _require_shown(run, prove_job(identity_of(run, submission)))
        except ForeignJobError as e:
            note = e.message
    return RunSituation(
        run=run,
        status=known or _status(run, submission, started, job),
        job=job,
        executor=executor,
        job_id=str(submission.get("job_id")),
        attempt=max(e.attempt for e in events),
        cancelled=is_cancelled(events),
        last=moves[-1],
        submissions=count_submissions(events),
        note=note,
    )


def newest_submission(run: RunDir, events: Sequence[Event]) -> Event:
    """The event of the job that has the run now, or had it last. Raises: RunError for a run that has none.

    A run of this machine whose submission was killed before it had its event says in its first attempt where it is.
    """
    submission = next((e for e in reversed(events) if e.event == "submitted"), None)
    if submission is None:
        submission = next((e for e in reversed(events) if _is_begun_here(e)), None)
    if submission is None:
        require_undamaged(run.events)
        raise RunError(f"run {run.id} was never submitted")
    return submission


def _is_begun_here(event: Event) -> bool:
    return event.event == "attempt_started" and event.get("executor") == "local"


def count_submissions(events: Sequence[Event]) -> int:
    """How often a run has been submitted."""
    return sum(event.event == "submitted" for event in events)


def identity_of(run: RunDir, submission: Event) -> JobIdentity:
    """What proves a SLURM job to be that of a `submitted` event of the run."""
    return read_identity(submission.fields, noted_at=submission.t, folders=submitit_folders(run))


def find_jobless(runs: Sequence[RunDir]) -> dict[RunDir, str]:
    """Those of the runs that are to be under way by their events and of which nothing waits or runs; what is gone.

    All jobs are asked for at once. What cannot be known is left out: jobs that SLURM does not show, or not now, and
    what may run on another machine or cluster.
    """
    gone: dict[RunDir, str] = {}
    jobs: dict[int, dict[str, str]] = {}
    for run in runs:
        with contextlib.suppress(RunError, ClusterError, OSError):
            before = read_events(run.events)
            if is_cancelled(before) or _known_status(before) is not None:
                continue
            what = _what_is_gone(run, before, jobs)
            now = read_events(run.events)
            if what and len(now) == len(before):  # else it has ended meanwhile, or goes on in another job
                gone[run] = what
    return gone


def _what_is_gone(run: RunDir, events: Sequence[Event], jobs: dict[int, dict[str, str]]) -> str | None:
    """What a run's newest event needs and is not there; `jobs` are the comments of users' jobs, as they are asked for.

    Raises: RunError, ClusterError, OSError where it cannot be known.
    """
    submission = newest_submission(run, events)
    placed = next(e for e in reversed(events) if e.event in ("submitted", "attempt_started"))
    if placed.get("executor") != "slurm":
        is_over = query_run_status(run).status is RunStatus.OVER
        return f"its process on {placed.get('host')}" if is_over else None
    job_id, cluster, owner = str(submission.get("job_id")), submission.get("cluster"), run.path.stat().st_uid
    if os.geteuid() not in (0, owner) or (cluster and cluster != query_cluster_name()):
        return None
    if owner not in jobs:
        lines = query_comments(str(owner)).splitlines()
        jobs[owner] = {job.strip(): comment for job, _, comment in (line.partition("|") for line in lines)}
    mark = parse_mark(jobs[owner].get(job_id))
    if job_id in jobs[owner] and (mark is None or submission.get("token") is None):
        is_over = (
            query_run_status(run).status is RunStatus.OVER
        )  # its site rewrites comments, or it is of format 1
    else:
        is_over = mark is None or mark.token != submission.get("token")
    return f"job {job_id} of SLURM" if is_over else None


def _require_shown(run: RunDir, job: ProvenJob) -> ProvenJob:
    """The run's job. Raises: RunError when SLURM would not show it to us."""
    owner, we = run.path.stat().st_uid, os.geteuid()
    is_ours = we in (0, owner)
    if job.fact is None and not is_ours and query_config().hides_jobs(owner_uid=owner, from_uid=we):
        raise RunError(
            f"run {run.id} is another user's, and SLURM hides its job {job.job_id} from you (PrivateData)",
            hint="only they can cancel or requeue it",
        )
    return job


def _known_status(events: Sequence[Event]) -> RunStatus | None:
    """The state of a run that has no use for a job, whatever one may still be doing; None of others."""
    known = {is_completed: RunStatus.COMPLETED, is_stopped: RunStatus.STOPPED, is_paused: RunStatus.PAUSED}
    return next((status for is_so, status in known.items() if is_so(events)), None)


def _status(run: RunDir, submission: Event, started: Event, job: ProvenJob | None) -> RunStatus:
    if "foreground" in (started.get("executor"), submission.get("executor")):
        _require_ended(run)
    if submission.get("executor") == "slurm":
        return _slurm_status(job.fact if job else None)
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
    if attempt.host == socket.gethostname() and not is_process_of(attempt.pid, attempt.started):
        return
    raise RunError(
        f"run {run.id} trains in the foreground: process {attempt.pid} on {attempt.host}",
        hint="Ctrl-C there saves and ends it",
    )


def _slurm_status(job: JobFact | None) -> RunStatus:
    if job is None or job.state.is_final:
        return RunStatus.OVER
    return RunStatus.WAITING if job.state.is_waiting else RunStatus.RUNNING
