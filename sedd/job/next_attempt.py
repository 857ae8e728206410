"""Ask SLURM for the next attempt: the same job back in the queue, or a job that continues it."""

from collections.abc import Sequence

from sedd.cluster.control import (
    JobCancelledError,
    JobGoneError,
    RequeueRefusedError,
    is_requeued,
    requeue,
    update_job,
)
from sedd.cluster.identity import ProvenJob
from sedd.cluster.scontrol import query_hostnames
from sedd.cluster.site import query_nodes
from sedd.errors import ClusterError, SeddError
from sedd.job.attempt import Task
from sedd.job.continuation import excluded, find_or_submit, read_slurm_profile, skip_pause, with_patience
from sedd.job.final_events import record_event
from sedd.job.own_job import own_job_of, query_own_fact
from sedd.rundir.attempts import Cause
from sedd.rundir.events import Event


def ensure_next_attempt(
    task: Task,
    events: Sequence[Event],
    *,
    attempt: int,
    cause: Cause,
    avoid: Sequence[str] = (),
    may_pause: bool = False,
) -> bool:
    """Make sure that another attempt follows, on other nodes than `avoid`; whether it does.

    Asked twice, it is done once. Where the site, the job or the profile has no requeue, a new job takes the run over;
    so it does to skip the pause after a requeue, unless the profile wants that or the caller (`may_pause`).
    """
    own, restarts = own_job_of(task, events), task.environment.restarts
    if cause is Cause.NODE_FAULT and avoid and not _has_nodes_left(task, events, avoid):
        why = f"too few nodes are left for another attempt without {', '.join(avoid)}"
        return _give_up(task, why, attempt=attempt, cause=cause)
    try:
        wish = read_slurm_profile(task.run).requeue
        if wish is not False:
            with_patience(lambda: requeue(own, restarts=restarts))
        elif not with_patience(lambda: is_requeued(own, restarts=restarts)):
            return _continue(task, own, events, avoid, attempt=attempt, cause=cause)
        if avoid:
            _avoid(task, own, events, avoid)
        if wish is not True and not may_pause:
            skip_pause(task, own, events, avoid)
    except JobCancelledError:
        record_event(task.run, "cancelled", attempt=attempt, by="scancel")
        return False
    except RequeueRefusedError as refusal:
        print(f"no requeue: {refusal.message}", flush=True)
        known = None if isinstance(refusal, JobGoneError) else own
        return _continue(task, known, events, avoid, attempt=attempt, cause=cause)
    except ClusterError as e:
        return _give_up(task, f"SLURM did not requeue it: {e.message}", attempt=attempt, cause=cause)
    return True


def nodes_without_record(task: Task, events: Sequence[Event]) -> tuple[str, ...]:
    """This node, and those that the job leaves out already beside the profile's: what no event tells, SLURM knows."""
    known: list[str] = []
    try:
        job = with_patience(lambda: query_own_fact(task, events))
        of_profile = excluded(task, ())
        shut = query_hostnames(",".join(of_profile)) if of_profile else []
        left_out = query_hostnames(job.excluded) if job is not None and job.excluded else []
        known = [name for name in left_out if name not in shut]
    except SeddError as e:
        print(f"cannot tell which nodes the job leaves out: {e.message}", flush=True)
    return tuple(dict.fromkeys([*known, task.environment.host]))


def starts_without_record(task: Task, events: Sequence[Event]) -> int:
    """How often SLURM has started this job, this time included, since an attempt of it was last recorded."""
    here = task.environment
    starts = (e for e in events if e.event == "attempt_started" and e.get("job_id") == here.job_id)
    return here.restarts - max((int(e.get("restarts", 0)) for e in starts), default=-1)


def _has_nodes_left(task: Task, events: Sequence[Event], avoid: Sequence[str]) -> bool:
    """Whether the job's partition has enough nodes without those; True where SLURM does not tell.

    SLURM would let a job wait for ever for nodes that there are not.
    """
    try:
        job, nodes = query_own_fact(task, events), query_nodes()
        if job is None or job.partition is None:
            return True
        shut, partitions = query_hostnames(",".join(excluded(task, avoid))), job.partition.split(",")
    except SeddError as e:
        print(f"cannot tell which nodes are left: {e.message}", flush=True)
        return True
    left = [n for n in nodes if n.name not in shut and not set(n.partitions).isdisjoint(partitions)]
    return len(left) >= task.experiment.resources.all_nodes


def _avoid(task: Task, own: ProvenJob, events: Sequence[Event], hosts: Sequence[str]) -> None:
    if not _has_nodes_left(task, events, hosts):
        print(f"too few nodes are left without {', '.join(hosts)}: the next attempt may get them", flush=True)
        return
    try:
        # Only now: SLURM refuses it while the job runs, and takes it between requeue and the job's end.
        update_job(own, exclude_nodes=excluded(task, hosts))
    except ClusterError as e:
        print(f"the next attempt may get {', '.join(hosts)} again: {e.message}", flush=True)


def _continue(
    task: Task,
    own: ProvenJob | None,
    events: Sequence[Event],
    avoid: Sequence[str],
    *,
    attempt: int,
    cause: Cause,
) -> bool:
    """Let a new job continue the run; `own` is None where SLURM does not know this one."""
    try:
        successor = find_or_submit(task, own, events, avoid)
    except SeddError as e:
        why = f"SLURM took neither a requeue nor a new job: {e.message}"
        return _give_up(task, why, attempt=attempt, cause=cause)
    print(f"job {successor} continues {task.run.id}", flush=True)
    return True


def _give_up(task: Task, why: str, *, attempt: int, cause: Cause) -> bool:
    print(why, flush=True)
    record_event(task.run, "gave_up", attempt=attempt, cause=cause, detail=why)
    return False
