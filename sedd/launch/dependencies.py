"""`sedd submit --after RUN`: a run that starts when other runs have completed.

SLURM waits for jobs (`afterok`), we wait for runs. A requeued job keeps its id, and SLURM does not take its exit for
success. A run that continues in another job (where requeueing is forbidden, or after `sedd requeue`) takes those that
wait for it along. And the job entry looks once more.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from sedd.cluster import dependencies
from sedd.cluster.identity import JobIdentity, ProvenJob, is_same_job, query_cluster_name
from sedd.cluster.jobs import JobFact, array_of
from sedd.cluster.scontrol import query_jobs
from sedd.errors import RunError
from sedd.launch.liveness import identity_of, newest_submission
from sedd.launch.submitted import describe_progress
from sedd.rundir.attempts import is_unsubmitted
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir, read_manifest


def dependency_on(runs: Sequence[RunDir], *, executor: str) -> str | None:
    """sbatch's --dependency for a job that waits until all `runs` have completed; None when they have.

    Raises:
        RunError: one of them does not complete by itself any more, or nothing can wait for it.
        ClusterError: SLURM does not answer.
    """
    waiting = [run for run in runs if not _is_completed(run)]
    jobs = {run: _job_to_wait_for(run, executor) for run in waiting}
    arrays = {array_of(identity.job_id) for identity in jobs.values()}
    known = {fact.job_id: fact for array in sorted(arrays) for fact in query_jobs(array)}
    alive = [i.job_id for run, i in jobs.items() if _will_complete(run, i, known.get(i.job_id))]
    return dependencies.after_success_of(alive) if alive else None


def require_completed(run: RunDir) -> None:
    """Make sure, at its start, that the runs which `run` waited for have completed.

    SLURM takes a job that it has forgotten, or that was cancelled in its last second, for a success.

    Raises:
        RunError: one of them has not. A folder that was removed since says nothing.
    """
    for path in map(Path, read_manifest(run).get("after") or ()):
        earlier = RunDir(path)
        if earlier.manifest.exists() and not _is_completed(earlier):
            standing = _standing(earlier) or "cancelled or given up"
            raise RunError(
                f"run {earlier.name}/{earlier.id} had to complete before this one, and is {standing}"
            )


def move_dependents(old: ProvenJob, new: str) -> list[str]:
    """Make jobs that wait for the success of job `old` wait for `new`, which continues its run; returns their ids.

    Raises:
        ClusterError: SLURM refuses or does not answer.
    """
    return dependencies.move_dependents(old, new, user=str(os.getuid()))


def _is_completed(run: RunDir) -> bool:
    return _standing(run) == "completed"


def _standing(run: RunDir) -> str | None:
    return describe_progress(read_events(run.events))


def _job_to_wait_for(run: RunDir, executor: str) -> JobIdentity:
    """The newest job of a run that is under way."""
    if is_unsubmitted(read_events(run.events)):
        raise RunError(
            f"run {run.name}/{run.id} is not submitted yet: nothing can wait for its job",
            hint=f"sedd requeue {run.id} submits it, as far as the site has a place",
        )
    if _standing(run) is None:
        raise _hopeless(run)
    submission = newest_submission(run, read_events(run.events))
    if submission.get("executor") != "slurm" or executor != "slurm":
        where = "on this machine" if executor != "slurm" else "outside SLURM"
        raise RunError(
            f"run {run.name}/{run.id} is {_standing(run)}, and nothing {where} waits for it",
            hint=f"follow it with `sedd logs {run.id} -f`, and submit when it is completed",
        )
    return identity_of(run, submission)


def _will_complete(run: RunDir, identity: JobIdentity, job: JobFact | None) -> bool:
    """Whether the run still has to be waited for. Raises: RunError when that is in vain."""
    cluster = query_cluster_name() if identity.cluster else None
    is_own = job is not None and is_same_job(identity, job, cluster=cluster)
    if job is not None and is_own and not job.state.is_final:
        return True
    if _is_completed(run):  # since we looked
        return False
    raise _hopeless(run)


def _hopeless(run: RunDir) -> RunError:
    return RunError(
        f"run {run.name}/{run.id} was cancelled, gave up or was lost: it will not complete",
        hint=f"sedd requeue {run.id} lets it go on; then repeat this",
    )
