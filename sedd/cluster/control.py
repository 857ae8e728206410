"""What we ask SLURM to do to jobs: the only file that changes one. Asked twice, each request is done once.

Every function takes jobs whose identity was proven (`identity.py`), never a mere id.
"""

import enum
from collections.abc import Sequence

from sedd.cluster.command import DEFAULT_TIMEOUT_S, SlurmUnreachableError, call, run, said_by
from sedd.cluster.identity import ForeignJobError, ProvenJob, require_same
from sedd.cluster.jobs import JobFact
from sedd.cluster.scontrol import query_job
from sedd.cluster.states import JobState
from sedd.cluster.stopping import Stopping, stopping
from sedd.errors import ClusterError


class RequeueRefusedError(ClusterError):
    """SLURM will not requeue the job: `JobRequeue=0`, `--no-requeue`, or it is forgotten or cancelled."""


class JobCancelledError(RequeueRefusedError):
    """The job was cancelled, or is being cancelled: whatever brings it back overrules its user."""


class JobGoneError(RequeueRefusedError):
    """SLURM has forgotten the job; its id may be another job's by now."""


class Requeue(enum.StrEnum):
    """What a requeue request came to."""

    ASKED = "asked"
    ALREADY = "already"


def requeue(job: ProvenJob, *, restarts: int | None = None, timeout_s: float = DEFAULT_TIMEOUT_S) -> Requeue:
    """Put the job back in the queue; a job that is going there already stays.

    SLURM is asked first: `scontrol requeue` on a job that preemption has requeued is an error, and on one
    that its user is cancelling it is a resurrection. `restarts` is the `SLURM_RESTART_COUNT` of the attempt
    that asks, where it asks for itself.

    Raises:
        RequeueRefusedError: cancelled, forgotten, or the site or job forbids it.
        SlurmUnreachableError: SLURM gave no answer; nothing is known.
    """
    if (before := _still_here(job, restarts=restarts, timeout_s=timeout_s)) is None:
        return Requeue.ALREADY
    known = before.restarts or 0 if restarts is None else restarts
    try:
        run(["scontrol", "requeue", job.job_id], timeout_s=timeout_s)
    except SlurmUnreachableError:
        raise
    except ClusterError as e:
        # Between question and request preemption may have been faster; then its outcome is ours.
        after = query_job(job.job_id, timeout_s=timeout_s)
        if after is not None and is_going_back(after, restarts_before=known):
            return Requeue.ALREADY
        raise RequeueRefusedError(e.message) from e
    return Requeue.ASKED


def is_requeued(job: ProvenJob, *, restarts: int, timeout_s: float = DEFAULT_TIMEOUT_S) -> bool:
    """Whether SLURM itself has put the job back in the queue already, as preemption without grace does.

    Raises:
        RequeueRefusedError: cancelled or forgotten. SlurmUnreachableError: nothing is known.
    """
    return _still_here(job, restarts=restarts, timeout_s=timeout_s) is None


def _still_here(proven: ProvenJob, *, restarts: int | None, timeout_s: float) -> JobFact | None:
    """The job, where it is not back in the queue. Raises: RequeueRefusedError when it will not be."""
    job_id = proven.job_id
    job = query_job(job_id, timeout_s=timeout_s)
    if job is None:
        raise JobGoneError(f"job {job_id}: SLURM no longer knows it")
    try:
        require_same(proven, job)
    except ForeignJobError as e:
        raise JobGoneError(e.message) from e
    known = job.restarts or 0 if restarts is None else restarts
    if is_going_back(job, restarts_before=known):
        return None
    if stopping(job, restarts=known) is Stopping.CANCELLED:
        raise JobCancelledError(f"job {job_id} was cancelled: it is not revived")
    return job


def is_going_back(job: JobFact, *, restarts_before: int | None = None) -> bool:
    """Whether SLURM has the job in the queue or on its way there.

    A requeued job whose processes still run is COMPLETING with its restart count already raised.
    """
    if job.state.is_waiting:
        return True
    raised = restarts_before is not None and (job.restarts or 0) > restarts_before
    return raised and not job.state.is_final


def update_job(
    job: ProvenJob,
    *,
    exclude_nodes: Sequence[str] | None = None,
    start_soon: bool = False,
    dependency: str | None = None,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> None:
    """Change a waiting job: the nodes it must not get, an end to its wait of about two minutes, what it depends on.

    The nodes are taken from the requeue on, also while the job is completing. The start is accepted there too,
    and then forgotten: it counts only once the job is PENDING, that is after its last process has ended.

    Raises:
        ClusterError: SLURM refuses, as it does while the job runs.
    """
    changes = []
    if exclude_nodes is not None:
        changes.append(f"ExcNodeList={','.join(exclude_nodes)}")
    if start_soon:
        # A few seconds on: in the second in which its node ended the old start, the node refuses the new one, and
        # SLURM ends the job as failed ("Job credential revoked").
        changes.append("StartTime=now+5")
    if dependency is not None:
        changes.append(f"Dependency={dependency}")
    if changes:
        run(["scontrol", "update", f"JobId={job.job_id}", *changes], timeout_s=timeout_s)


def pauses_after_requeue(job: JobFact) -> bool:
    """Whether the job waits for nothing but a time that SLURM, not its user, has set: its requeue plus two minutes."""
    return job.state.is_waiting and job.reason == "BeginTime" and (job.restarts or 0) > 0


def cancel_requeued(job: ProvenJob, *, restarts: int, timeout_s: float = DEFAULT_TIMEOUT_S) -> bool:
    """Take a job back out of the queue that went there when its start number `restarts` ended; whether it was so.

    It is still ending, or pauses: no start after that one is touched. SLURM lets what still runs of it end.

    Raises:
        ForeignJobError, SlurmUnreachableError, ClusterError: as `command.run`; nothing is known.
    """
    fact = query_job(job.job_id, timeout_s=timeout_s)
    if fact is None or fact.restarts != restarts + 1:
        return False
    require_same(job, fact)
    if fact.state is not JobState.COMPLETING and not pauses_after_requeue(fact):
        return False
    scancel([job], timeout_s=timeout_s)
    return True


def release(job: ProvenJob, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
    """Let a job that is held in the queue start. Raises: SlurmUnreachableError, ClusterError, as `command.run`."""
    run(["scontrol", "release", job.job_id], timeout_s=timeout_s)


def scancel(
    jobs: Sequence[ProvenJob], *, signal: str | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
) -> None:
    """Cancel the jobs, or send `signal` (`USR2`) to their steps instead. Ended jobs are no error.

    Raises:
        SlurmUnreachableError, ClusterError: as `command.run`.
    """
    if not jobs:
        return
    # --quiet: no complaint about jobs that have ended.
    options = ["--quiet", *([f"--signal={signal}"] if signal else [])]
    run(["scancel", *options, *(job.job_id for job in jobs)], timeout_s=timeout_s)


def cancel_waiting(job: ProvenJob, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> None:
    """Cancel a job unless it has started meanwhile. Raises: SlurmUnreachableError, ClusterError, as `command.run`."""
    run(["scancel", "--quiet", "--state=PENDING", job.job_id], timeout_s=timeout_s)


def sbatch_test_only(script: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> str:
    """SLURM's estimate of start, processors and nodes for a batch script, which is not submitted.

    Raises:
        SlurmUnreachableError: no answer.
        ClusterError: SLURM would not accept the script; the message has its reason.
    """
    return said_by("sbatch", call(["sbatch", "--test-only"], stdin=script, timeout_s=timeout_s).stderr)
