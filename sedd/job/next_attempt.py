"""Ask SLURM for the next attempt: the same job back in the queue, or a job that continues it."""

import os
import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from sedd.cluster.command import SlurmUnreachableError
from sedd.cluster.control import (
    JobCancelledError,
    RequeueRefusedError,
    is_requeued,
    requeue,
    scancel,
    update_job,
)
from sedd.cluster.profile import SlurmProfile
from sedd.cluster.squeue import parse_comments, query_comments
from sedd.errors import ClusterError, SeddError
from sedd.job.attempt import Task
from sedd.job.final_events import record_event
from sedd.launch.dependencies import move_dependents
from sedd.launch.resources import read_manifest_profile, slurm_parameters
from sedd.launch.submit_slurm import is_startable, record_submitted, submit_slurm
from sedd.rundir.attempts import Cause, slowest_save_s
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir, read_manifest

Answer = TypeVar("Answer")

_ASK_AGAIN_S = 10.0
_ASKS = 60
"""For ten minutes: who gives up sooner loses the run for good, who waits at worst is killed waiting."""


def ensure_next_attempt(task: Task, avoid: Sequence[str], *, attempt: int, cause: Cause) -> bool:
    """Make sure that another attempt follows, on other nodes than `avoid`; whether it does.

    Asked twice, it is done once. Where the site, the job or the profile has no requeue, a new job takes the run over.
    """
    try:
        if not _is_back_in_the_queue(task):
            return _continue(task, avoid, attempt=attempt, cause=cause)
        if avoid:
            _avoid(task, avoid)
    except JobCancelledError:
        record_event(task.run, "cancelled", attempt=attempt, by="scancel")
        return False
    except RequeueRefusedError as refusal:
        print(f"no requeue: {refusal.message}", flush=True)
        return _continue(task, avoid, attempt=attempt, cause=cause)
    except ClusterError as e:
        return _give_up(task, f"SLURM did not requeue it: {e.message}", attempt=attempt, cause=cause)
    return True


def _is_back_in_the_queue(task: Task) -> bool:
    """Whether the job itself goes on: requeued now, or by SLURM. False where the site's profile wants a new job."""
    place = task.place
    if not _profile(task.run).requeue:
        return _patiently(lambda: is_requeued(place.job_id, restarts=place.restarts))
    _patiently(lambda: requeue(place.job_id, restarts=place.restarts))
    return True


def _patiently(ask: Callable[[], Answer]) -> Answer:
    """Ask, and ask again while SLURM does not answer: its controller may just be restarting."""
    for _ in range(_ASKS - 1):
        try:
            return ask()
        except SlurmUnreachableError as e:
            print(f"SLURM does not answer, asking again: {e.message}", flush=True)
            time.sleep(_ASK_AGAIN_S)
    return ask()


def _profile(run: RunDir) -> SlurmProfile:
    profile = read_manifest_profile(run)
    assert isinstance(profile, SlurmProfile), "a job of SLURM has a profile of SLURM"
    return profile


def _avoid(task: Task, hosts: Sequence[str]) -> None:
    try:
        # Only now: SLURM refuses it while the job runs, and takes it between requeue and the job's end.
        update_job(task.place.job_id, exclude_nodes=_excluded(task, hosts))
    except ClusterError as e:
        print(f"the next attempt may get {', '.join(hosts)} again: {e.message}", flush=True)


def _excluded(task: Task, hosts: Sequence[str]) -> list[str]:
    """The hosts to avoid, and the profile's: SLURM's new list replaces the old."""
    standing = read_manifest(task.run).get("profile", {}).get("exclude")
    return [*([standing] if standing else []), *hosts]


def _continue(task: Task, avoid: Sequence[str], *, attempt: int, cause: Cause) -> bool:
    """Submit a job that starts in the same run folder when this one has ended, unless that has been done."""
    run, job_id = task.run, task.place.job_id
    try:
        successor = _find_continuation(task) or _submit_continuation(task, avoid)
    except SeddError as e:
        why = f"SLURM took neither a requeue nor a new job: {e.message}"
        return _give_up(task, why, attempt=attempt, cause=cause)
    try:
        move_dependents(job_id, successor)
    except ClusterError as e:
        print(f"jobs that wait for job {job_id} do not yet wait for {successor}: {e.message}", flush=True)
    print(f"job {successor} goes on with {run.id}", flush=True)
    return True


def _find_continuation(task: Task) -> str | None:
    """The job that continues this one, if it has been submitted; also when no event says so.

    Somebody may have been killed between sbatch and the event. Where that was before submitit's file was in place the
    job could not start: it goes, and another is submitted.

    Raises:
        SlurmUnreachableError, ClusterError: it cannot be known.
    """
    own = task.place.job_id
    for event in read_events(task.run.events):
        if event.event == "submitted" and event.get("continues") == own:
            return str(event.get("job_id"))
    comments = parse_comments(_patiently(lambda: query_comments(str(os.getuid()))))
    for job_id in [job_id for job_id, comment in comments.items() if comment.endswith(_mark(task))]:
        if is_startable(task.run.submitit, job_id):
            record_submitted(task.run, job_id, continues=own)
            return job_id
        scancel([job_id])
    return None


def _submit_continuation(task: Task, avoid: Sequence[str]) -> str:
    """Submit the job that waits for the end of this one. Raises: ClusterError, SpecError, RunError."""
    run, job_id = task.run, task.place.job_id
    parameters = slurm_parameters(
        task.experiment,
        _profile(run),
        code=run.code,
        submitit=run.submitit,
        save_s=slowest_save_s(read_events(run.events)),
    )
    sbatch = dict(parameters.get("additional_parameters", {}))
    sbatch["comment"] = "; ".join(filter(None, [sbatch.get("comment"), _mark(task)]))
    extra = {"dependency": f"afterany:{job_id}", "additional_parameters": sbatch}
    if avoid:
        extra["exclude"] = ",".join(_excluded(task, avoid))
    (successor,) = submit_slurm([run], parameters | extra, folder=run.submitit, continues=job_id)
    return successor


def _mark(task: Task) -> str:
    """What the comment of the job that continues this one says."""
    return f"sedd: {task.run.id} continues {task.place.job_id}"


def _give_up(task: Task, why: str, *, attempt: int, cause: Cause) -> bool:
    print(why, flush=True)
    record_event(task.run, "gave_up", attempt=attempt, cause=cause, detail=why)
    return False
