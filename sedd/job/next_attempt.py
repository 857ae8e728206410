"""Ask SLURM for the next attempt: the same job back in the queue, or a job that continues it."""

import os
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from sedd.cluster.command import SlurmUnreachableError
from sedd.cluster.control import (
    JobCancelledError,
    JobGoneError,
    RequeueRefusedError,
    is_requeued,
    requeue,
    scancel,
    update_job,
)
from sedd.cluster.identity import Mark, ProvenJob, parse_mark
from sedd.cluster.profile import SlurmProfile
from sedd.cluster.squeue import parse_comments, query_comments
from sedd.errors import ClusterError, SeddError
from sedd.job.attempt import Task
from sedd.job.final_events import record_event
from sedd.job.own_job import own_job_of
from sedd.launch.dependencies import move_dependents
from sedd.launch.resources import read_manifest_profile, slurm_parameters
from sedd.launch.submit_slurm import is_startable, proof_of, record_submitted, submit_slurm
from sedd.rundir.attempts import Cause, slowest_save_s
from sedd.rundir.events import Event
from sedd.rundir.layout import RunDir, read_manifest

Answer = TypeVar("Answer")

_ASK_AGAIN_S = 10.0
_ASKS = 60
"""For ten minutes: giving up sooner loses the run for good; at worst we are killed while waiting."""


def ensure_next_attempt(
    task: Task, events: Sequence[Event], *, attempt: int, cause: Cause, avoid: Sequence[str] = ()
) -> bool:
    """Make sure that another attempt follows, on other nodes than `avoid`; whether it does.

    Asked twice, it is done once. Where the site, the job or the profile has no requeue, a new job takes the run over.
    """
    own, restarts = own_job_of(task, events), task.environment.restarts
    try:
        if read_slurm_profile(task.run).requeue:
            _with_patience(lambda: requeue(own, restarts=restarts))
        elif not _with_patience(lambda: is_requeued(own, restarts=restarts)):
            return _continue(task, own, events, avoid, attempt=attempt, cause=cause)
        if avoid:
            _avoid(task, own, avoid)
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


def read_slurm_profile(run: RunDir) -> SlurmProfile:
    """The profile of a run that SLURM runs. Raises: RunError, SpecError on a damaged manifest."""
    profile = read_manifest_profile(run)
    assert isinstance(profile, SlurmProfile), "a job of SLURM has a profile of SLURM"
    return profile


def _with_patience(ask: Callable[[], Answer]) -> Answer:
    """Ask, and ask again while SLURM does not answer: its controller may just be restarting."""
    for _ in range(_ASKS - 1):
        try:
            return ask()
        except SlurmUnreachableError as e:
            print(f"SLURM does not answer, asking again: {e.message}", flush=True)
            time.sleep(_ASK_AGAIN_S)
    return ask()


def _avoid(task: Task, own: ProvenJob, hosts: Sequence[str]) -> None:
    try:
        # Only now: SLURM refuses it while the job runs, and takes it between requeue and the job's end.
        update_job(own, exclude_nodes=_excluded(task, hosts))
    except ClusterError as e:
        print(f"the next attempt may get {', '.join(hosts)} again: {e.message}", flush=True)


def _excluded(task: Task, hosts: Sequence[str]) -> list[str]:
    """The hosts to avoid, and the profile's: SLURM's new list replaces the old."""
    of_profile = read_manifest(task.run).get("profile", {}).get("exclude")
    return [*([of_profile] if of_profile else []), *hosts]


def _continue(
    task: Task,
    own: ProvenJob | None,
    events: Sequence[Event],
    avoid: Sequence[str],
    *,
    attempt: int,
    cause: Cause,
) -> bool:
    """Submit a job that starts in the same run folder when this one has ended, unless that has been done.

    `own` is None where SLURM does not know this one: nothing can wait for it.
    """
    try:
        successor = _find_continuation(task, events) or _submit_continuation(task, own, events, avoid)
    except SeddError as e:
        why = f"SLURM took neither a requeue nor a new job: {e.message}"
        return _give_up(task, why, attempt=attempt, cause=cause)
    if own is not None:
        _move_dependents(own, successor)
    print(f"job {successor} continues {task.run.id}", flush=True)
    return True


def _move_dependents(own: ProvenJob, successor: str) -> None:
    try:
        move_dependents(own, successor)
    except ClusterError as e:
        print(
            f"could not move the dependencies of job {own.job_id} to job {successor}: {e.message}",
            flush=True,
        )


def _find_continuation(task: Task, events: Sequence[Event]) -> str | None:
    """The job that continues this one, if it has been submitted; also when no event says so.

    Somebody may have been killed between sbatch and the event. Where that was before submitit's file was in place the
    job could not start: it is cancelled, and another is submitted.

    Raises:
        SlurmUnreachableError, ClusterError: it cannot be known.
    """
    own = task.environment.job_id
    for event in events:
        if event.event == "submitted" and event.get("continues") == own:
            return str(event.get("job_id"))
    comments = parse_comments(_with_patience(lambda: query_comments(str(os.getuid()))))
    for job_id, comment in comments.items():
        mark = parse_mark(comment)
        if mark is None or not _continues(mark, task):
            continue
        if is_startable(task.run.submitit, job_id):
            record_submitted(task.run, job_id, proof=proof_of(job_id, mark))
            return job_id
        scancel([ProvenJob(job_id=job_id)])  # its mark is the proof
    return None


def _continues(mark: Mark, task: Task) -> bool:
    return mark.continues == task.environment.job_id and mark.folder == str(task.run.path)


def _submit_continuation(
    task: Task, own: ProvenJob | None, events: Sequence[Event], avoid: Sequence[str]
) -> str:
    """Submit the job that waits for the end of `own`. Raises: ClusterError, SpecError, RunError."""
    run, job_id = task.run, task.environment.job_id
    parameters = slurm_parameters(
        task.experiment,
        read_slurm_profile(run),
        code=run.code,
        submitit=run.submitit,
        save_s=slowest_save_s(events),
    )
    extra = {"dependency": f"afterany:{own.job_id}"} if own is not None else {}
    if avoid:
        extra["exclude"] = ",".join(_excluded(task, avoid))
    (successor,) = submit_slurm([run], parameters | extra, folder=run.submitit, continues=job_id)
    return successor


def _give_up(task: Task, why: str, *, attempt: int, cause: Cause) -> bool:
    print(why, flush=True)
    record_event(task.run, "gave_up", attempt=attempt, cause=cause, detail=why)
    return False
