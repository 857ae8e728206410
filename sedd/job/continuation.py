"""The job that continues a job's run: found or submitted once, and put in the place of a requeue that would pause."""

import os
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from sedd.cluster.command import SlurmUnreachableError
from sedd.cluster.control import cancel_requeued, scancel
from sedd.cluster.dependencies import is_awaited_whole
from sedd.cluster.identity import Mark, ProvenJob, parse_mark, prove_job
from sedd.cluster.jobs import array_of
from sedd.cluster.profile import SlurmProfile
from sedd.cluster.squeue import parse_comments, query_comments
from sedd.errors import ClusterError, SeddError
from sedd.job.attempt import Task
from sedd.job.picked_shape import next_shape
from sedd.launch.liveness import identity_of, newest_submission
from sedd.launch.predecessors import move_dependents
from sedd.launch.resources import read_manifest_profile, slurm_parameters
from sedd.launch.submit_slurm import is_startable, proof_of, record_submitted, submit_slurm
from sedd.rundir.attempts import is_cancelled, slowest_save_s
from sedd.rundir.events import Event, read_events
from sedd.rundir.layout import RunDir, read_manifest

Answer = TypeVar("Answer")

_ASK_AGAIN_S = 10.0
_ASKS = 60
"""For ten minutes: giving up sooner loses the run for good; at worst we are killed while waiting."""


def read_slurm_profile(run: RunDir) -> SlurmProfile:
    """The profile of a run that SLURM runs. Raises: RunError, SpecError on a damaged manifest."""
    profile = read_manifest_profile(run)
    assert isinstance(profile, SlurmProfile), "a job of SLURM has a profile of SLURM"
    return profile


def with_patience(ask: Callable[[], Answer]) -> Answer:
    """Ask, and ask again while SLURM does not answer: its controller may just be restarting."""
    for _ in range(_ASKS - 1):
        try:
            return ask()
        except SlurmUnreachableError as e:
            print(f"SLURM does not answer, asking again: {e.message}", flush=True)
            time.sleep(_ASK_AGAIN_S)
    return ask()


def skip_pause(task: Task, own: ProvenJob, events: Sequence[Event], avoid: Sequence[str]) -> None:
    """Let a new job start where our requeued one would pause for two minutes; where that fails, it pauses.

    The new job waits for the end of ours, so one of them trains at a time. Only when it is in the queue for certain
    ours is taken out of it: whoever is killed before that leaves both there, and the run pauses.
    """
    try:
        if _is_bound_to_array(task, own):
            return
        successor = find_or_submit(task, own, events, avoid)
        now = read_events(task.run.events)
        job = prove_job(identity_of(task.run, newest_submission(task.run, now)))
        is_waiting = job.fact is not None and job.fact.state.is_waiting
        if job.job_id != successor or not is_waiting or is_cancelled(now):
            return
        if cancel_requeued(own, restarts=task.environment.restarts):
            print(f"job {successor} continues {task.run.id} without a pause", flush=True)
    except SeddError as e:
        print(f"the run pauses before its next attempt: {e.message}", flush=True)


def _is_bound_to_array(task: Task, own: ProvenJob) -> bool:
    """Whether a job is a point of a sweep that must not leave its array for a job of its own.

    Where the array lets as many points train at a time, another would start in its place; and a job that waits for
    the success of the whole array would wait for ever for the point that was cancelled in it.

    Raises:
        RunError, ClusterError: it cannot be known.
    """
    if "_" not in own.job_id:
        return False
    has_limit = read_manifest(task.run).get("parallel", 1) is not None
    return has_limit or is_awaited_whole(array_of(own.job_id), user=str(os.getuid()))


def find_or_submit(
    task: Task,
    own: ProvenJob | None,
    events: Sequence[Event],
    avoid: Sequence[str],
    *,
    dependency: str | None = None,
) -> str:
    """The job that starts in the same run folder when this one has ended, submitted unless there is one; its id.

    `own` is None where SLURM does not know this one: nothing can wait for it. `dependency`: what else it waits for.

    Raises:
        SlurmUnreachableError, ClusterError, SpecError, RunError: there is none, or it cannot be known.
    """
    successor = _find_continuation(task, events) or _submit_continuation(
        task, own, events, avoid, dependency=dependency
    )
    if own is not None:
        _move_dependents(own, successor)
    return successor


def is_continued(events: Sequence[Event], job_id: str) -> bool:
    """Whether another job was submitted that continues this one."""
    return any(e.event == "submitted" and e.get("continues") == job_id for e in events)


def excluded(task: Task, hosts: Sequence[str]) -> list[str]:
    """The hosts to avoid, and the profile's: SLURM's new list replaces the old."""
    of_profile = read_manifest(task.run).get("profile", {}).get("exclude")
    return [*([of_profile] if of_profile else []), *hosts]


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
    comments = parse_comments(with_patience(lambda: query_comments(str(os.getuid()))))
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
    task: Task,
    own: ProvenJob | None,
    events: Sequence[Event],
    avoid: Sequence[str],
    *,
    dependency: str | None,
) -> str:
    """Submit the job that waits for the end of `own`. Raises: ClusterError, SpecError, RunError."""
    run, job_id = task.run, task.environment.job_id
    profile = read_slurm_profile(run)
    parameters = slurm_parameters(
        next_shape(task, profile),
        profile,
        code=run.code,
        submitit=run.submitit,
        save_s=slowest_save_s(events),
    )
    waits = [*([f"afterany:{own.job_id}"] if own is not None else []), *([dependency] if dependency else [])]
    extra = {"dependency": ",".join(waits)} if waits else {}
    if avoid:
        extra["exclude"] = ",".join(excluded(task, avoid))
    (successor,) = submit_slurm([run], parameters | extra, folder=run.submitit, continues=job_id)
    return successor
