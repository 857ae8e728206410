"""Ask SLURM for the next attempt: the same job back in the queue, or a job that continues it."""

import time
from collections.abc import Sequence

from sedd.cluster.command import SlurmUnreachableError
from sedd.cluster.control import RequeueRefusedError, requeue, update_job
from sedd.cluster.profile import SlurmProfile
from sedd.errors import ClusterError, SeddError
from sedd.launch.after import take_along
from sedd.launch.attempt import Task
from sedd.launch.place import Place
from sedd.launch.resources import read_manifest_profile, slurm_parameters
from sedd.launch.submission import submit_slurm
from sedd.launch.words import say
from sedd.rundir.attempts import Cause, save_times_s
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir, read_manifest

_ASK_AGAIN_S = 10.0
_ASKS = 4


def go_on(task: Task, avoid: Sequence[str], *, attempt: int, cause: Cause) -> bool:
    """Make sure that another attempt follows, on other nodes than `avoid`; whether it does.

    Asked twice, it is done once. Where the site or the job forbids a requeue, a new job takes the run over.
    """
    try:
        _requeue_patiently(task.place)
        if avoid:
            _avoid(task, avoid)
    except RequeueRefusedError as refusal:
        print(f"no requeue: {refusal.message}", flush=True)
        return _continue(task, avoid, attempt=attempt, cause=cause)
    except ClusterError as e:
        return _give_up(task, f"SLURM did not requeue it: {e.message}", attempt=attempt, cause=cause)
    return True


def slowest_save_s(run: RunDir) -> float | None:
    """The longest that a checkpoint of this run took: what the warning before a time limit must leave."""
    return max(save_times_s(read_events(run.events)), default=None)


def _requeue_patiently(place: Place) -> None:
    """Requeue, asking again while SLURM does not answer: its controller may just be restarting."""
    for ask in range(_ASKS):
        try:
            requeue(place.job_id, restarts=place.restarts)
        except SlurmUnreachableError:
            if ask == _ASKS - 1:
                raise
            time.sleep(_ASK_AGAIN_S)
        else:
            return


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
    if any(e.event == "submitted" and e.get("continues") == job_id for e in read_events(run.events)):
        return True
    profile = read_manifest_profile(run)
    assert isinstance(profile, SlurmProfile)
    parameters = slurm_parameters(
        task.experiment, profile, code=run.code, submitit=run.submitit, save_s=slowest_save_s(run)
    )
    extra = {"dependency": f"afterany:{job_id}"}
    if avoid:
        extra["exclude"] = ",".join(_excluded(task, avoid))
    try:
        (successor,) = submit_slurm([run], parameters | extra, folder=run.submitit, continues=job_id)
    except SeddError as e:
        why = f"SLURM took neither a requeue nor a new job: {e.message}"
        return _give_up(task, why, attempt=attempt, cause=cause)
    try:
        take_along(job_id, successor)
    except ClusterError as e:
        print(f"jobs that wait for job {job_id} do not yet wait for {successor}: {e.message}", flush=True)
    return True


def _give_up(task: Task, why: str, *, attempt: int, cause: Cause) -> bool:
    print(why, flush=True)
    say(task.run, "gave_up", attempt=attempt, cause=cause, detail=why)
    return False
