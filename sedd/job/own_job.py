"""The SLURM job that this process runs in. Its id may be another job's by now, if SLURM has lost its state since."""

from collections.abc import Sequence

from sedd.cluster.command import DEFAULT_TIMEOUT_S
from sedd.cluster.identity import ProvenJob, own_job, require_same
from sedd.cluster.jobs import JobFact
from sedd.cluster.scontrol import query_job
from sedd.cluster.site import query_config
from sedd.errors import ClusterError, RunError
from sedd.job.attempt import Task
from sedd.launch.liveness import identity_of
from sedd.rundir.events import Event

_ASK_TIMEOUT_S = 5.0
_KILL_WAIT_S = 10.0
"""Where SLURM does not answer; its own default is 30 s."""


def own_job_of(task: Task, events: Sequence[Event]) -> ProvenJob:
    """This job, with what tells it from another that has its id now, as far as the run's events say."""
    job_id = task.environment.job_id
    submissions = [e for e in events if e.event == "submitted" and e.get("job_id") == job_id]
    try:
        identity = identity_of(task.run, submissions[-1]) if submissions else None
    except RunError:  # the manifest cannot be read just now
        identity = None
    return own_job(job_id, identity)


def query_own_fact(
    task: Task, events: Sequence[Event], *, timeout_s: float = DEFAULT_TIMEOUT_S
) -> JobFact | None:
    """What SLURM shows of this job; None when it has forgotten it.

    Raises:
        ForeignJobError: another job has its id now. SlurmUnreachableError, ClusterError: as `command.run`.
    """
    fact = query_job(task.environment.job_id, timeout_s=timeout_s)
    if fact is not None:
        require_same(own_job_of(task, events), fact)
    return fact


def query_kill_wait_s(task: Task) -> float:
    """From SLURM's SIGTERM to its SIGKILL."""
    if task.environment.executor != "slurm":
        return 0.0
    try:
        return float(query_config(timeout_s=_ASK_TIMEOUT_S).kill_wait_s)
    except ClusterError:
        return _KILL_WAIT_S


def query_job_fact(task: Task, events: Sequence[Event]) -> JobFact | None:
    """What SLURM shows of the job now; None where it does not answer or shows another, and under the local executor."""
    if task.environment.executor != "slurm":
        return None
    try:
        return query_own_fact(task, events, timeout_s=_ASK_TIMEOUT_S)
    except ClusterError as e:
        print(f"cannot query the job: {e.message}", flush=True)
        return None
