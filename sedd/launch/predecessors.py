"""A run that starts after other runs: `sedd submit --after RUN`, and the stages of a plan.

SLURM waits for jobs (`afterok`, `afterany`), we wait for runs. A requeued job keeps its id, and SLURM takes its exit
neither for success nor for an end. A run that continues in another job (where requeueing is forbidden, or after
`sedd requeue`) takes those that wait for it along. And the job entry looks once more; without SLURM it waits itself.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sedd.cluster import dependencies
from sedd.cluster.identity import JobIdentity, ProvenJob, is_same_job, query_cluster_name
from sedd.cluster.jobs import JobFact, array_of
from sedd.cluster.scontrol import query_jobs
from sedd.errors import RunError
from sedd.halving.fellows import read_group, read_halving
from sedd.launch.liveness import identity_of, newest_submission
from sedd.launch.submitted import describe_progress
from sedd.rundir.attempts import is_cancelled, is_completed, is_paused, is_stopped, is_unsubmitted
from sedd.rundir.events import read_events
from sedd.rundir.find import typed_name
from sedd.rundir.layout import RunDir, read_manifest


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """The runs that come before a run, by what lets it start."""

    completed: tuple[RunDir, ...] = ()
    """Each must have completed (`afterok`)."""
    ended: tuple[RunDir, ...] = ()
    """Each must have ended, however (`afterany`)."""
    failed: tuple[RunDir, ...] = ()
    """Each must have ended, and at least one of them without completing (`on_failure`)."""

    def as_manifest(self) -> dict[str, list[str]]:
        """The fields of manifest.json that `read_needs` reads."""
        return {field: [str(run.path) for run in getattr(self, kind)] for kind, field in _FIELDS.items()}


_FIELDS = {"completed": "after", "ended": "after_any", "failed": "on_failure"}
"""Kind of need to its field in manifest.json."""


def read_needs(run: RunDir) -> Needs:
    """What a run waits for. Runs whose folder was removed since hold nothing up. Raises: RunError."""
    manifest = read_manifest(run)
    found = {
        kind: tuple(r for path in manifest.get(field) or () if (r := RunDir(Path(path))).manifest.exists())
        for kind, field in _FIELDS.items()
    }
    return Needs(**found)


def dependency_on(needs: Needs, *, executor: str) -> str | None:
    """sbatch's --dependency for a job that has these needs; None where SLURM has nothing to wait for.

    Without SLURM nothing has: the job entry waits by itself.

    Raises:
        RunError: one of them does not complete by itself any more, or nothing can wait for it.
        ClusterError: SLURM does not answer.
    """
    completing = {r: _job_to_wait_for(r, executor) for r in needs.completed if _is_awaited(r)}
    open_ones = [r for r in (*needs.ended, *needs.failed) if _is_awaited(r) and _standing(r)]
    ending = {r: _job_to_wait_for(r, executor) for r in open_ones}
    if executor != "slurm":
        return None
    paused = [run for run in (*completing, *ending) if is_paused(read_events(run.events))]
    ending |= _jobs_that_decide(paused)
    completing = {r: identity for r, identity in completing.items() if r not in paused and r not in ending}
    jobs = {**completing, **ending}
    arrays = {array_of(identity.job_id) for identity in jobs.values()}
    known = {fact.job_id: fact for array in sorted(arrays) for fact in query_jobs(array)}
    succeed = [i.job_id for run, i in completing.items() if _will_complete(run, i, known.get(i.job_id))]
    end = [i.job_id for run, i in ending.items() if _is_under_way(i, known.get(i.job_id))]
    return dependencies.after(success_of=succeed, end_of=end)


class Start(StrEnum):
    """Whether a run may start, by the runs that it needs."""

    NOW = "now"
    LATER = "later"
    NEVER = "never"
    """What it waited for has happened otherwise: it is left out."""
    STOPPED = "stopped"
    """The training that it belongs to was stopped by the rule of its halving sweep: so is this one."""


def judge_needs(needs: Needs, *, has_ended: Callable[[RunDir], bool] = lambda _: False) -> tuple[Start, str]:
    """Whether a run with these needs may start now, and why not.

    SLURM takes a job that it has forgotten, or that was cancelled in its last second, for a success: the events of
    the needed runs decide. `has_ended` says of a run without a last word whether nothing of it lives any more.
    """
    for run in needs.completed:
        if _is_awaited(run):
            standing = _standing(run) or "cancelled or given up"
            return Start.LATER, f"run {run.name}/{run.id} had to complete before this one, and is {standing}"
    for run in (*needs.ended, *needs.failed):
        if _is_awaited(run) and (progress := _standing(run)) and not has_ended(run):
            return Start.LATER, f"run {run.name}/{run.id} had to end before this one, and is {progress}"
    if loser := _only_stopped(needs.completed):
        return Start.STOPPED, f"left out: run {loser.name}/{loser.id} was stopped by rule"
    if needs.failed and not any(_has_failed(run) for run in needs.failed):
        names = ", ".join(f"{run.name}/{run.id}" for run in needs.failed[:3])
        return Start.NEVER, f"left out: {names} did not fail"
    return Start.NOW, ""


def move_dependents(old: ProvenJob, new: str) -> list[str]:
    """Make jobs that wait for job `old` wait for `new`, which continues its run; returns their ids.

    Raises:
        ClusterError: SLURM refuses or does not answer.
    """
    return dependencies.move_dependents(old, new, user=str(os.getuid()))


def _is_completed(run: RunDir) -> bool:
    return _standing(run) == "completed"


def _is_awaited(run: RunDir) -> bool:
    """Whether it has neither completed nor was stopped by the rule of its halving sweep."""
    return not _is_completed(run) and not is_stopped(read_events(run.events))


def _has_failed(run: RunDir) -> bool:
    """Whether it ended without completing, and neither a user nor a rule wanted that."""
    events = read_events(run.events)
    return not _is_completed(run) and not is_cancelled(events) and not is_stopped(events)


def _only_stopped(runs: Sequence[RunDir]) -> RunDir | None:
    """A run that was stopped by rule, where no other of its sweep or stage is there that has completed."""
    groups: dict[tuple[str, ...], list[RunDir]] = {}
    for run in runs:
        manifest = read_manifest(run)
        own = (
            [manifest.get("plan"), manifest.get("stage")] if manifest.get("plan") else [manifest.get("sweep")]
        )
        groups.setdefault(tuple(str(name or run.path) for name in own), []).append(run)
    return next((group[0] for group in groups.values() if not any(map(_is_completed, group))), None)


def _jobs_that_decide(paused: Sequence[RunDir]) -> dict[RunDir, JobIdentity]:
    """Of runs that wait at a rung: their fellows that have a job; when these have ended, it is time to look again."""
    found: dict[RunDir, JobIdentity] = {}
    for run in paused:
        halving = read_halving(run)
        fellows = read_group(run, halving).fellows.values() if halving is not None else ()
        for fellow in fellows:
            is_over = not describe_progress(fellow.events) or is_completed(fellow.events)
            if is_over or any(is_so(fellow.events) for is_so in (is_unsubmitted, is_paused, is_stopped)):
                continue
            found[fellow.run] = identity_of(fellow.run, newest_submission(fellow.run, fellow.events))
    return found


def _standing(run: RunDir) -> str | None:
    return describe_progress(read_events(run.events))


def _job_to_wait_for(run: RunDir, executor: str) -> JobIdentity:
    """The newest job of a run that is under way."""
    if is_unsubmitted(read_events(run.events)):
        raise RunError(
            f"run {run.name}/{run.id} is not submitted yet: nothing can wait for its job",
            hint=f"sedd requeue {typed_name(run)} submits it, as far as the site has a place",
        )
    if _standing(run) is None:
        raise _hopeless(run)
    submission = newest_submission(run, read_events(run.events))
    if (submission.get("executor") == "slurm") != (executor == "slurm"):
        where = "on this machine" if executor != "slurm" else "under SLURM"
        raise RunError(
            f"run {run.name}/{run.id} is {_standing(run)}, and nothing {where} can wait for it",
            hint=f"follow it with `sedd logs {typed_name(run)} -f`, and submit when it is completed",
        )
    return identity_of(run, submission)


def _will_complete(run: RunDir, identity: JobIdentity, job: JobFact | None) -> bool:
    """Whether the run still has to be waited for. Raises: RunError when that is in vain."""
    if _is_under_way(identity, job):
        return True
    if not _is_awaited(run) or is_paused(read_events(run.events)):  # since we looked
        return False
    raise _hopeless(run)


def _is_under_way(identity: JobIdentity, job: JobFact | None) -> bool:
    """Whether SLURM has the job, and it has not ended."""
    cluster = query_cluster_name() if identity.cluster else None
    is_own = job is not None and is_same_job(identity, job, cluster=cluster)
    return job is not None and is_own and not job.state.is_final


def _hopeless(run: RunDir) -> RunError:
    return RunError(
        f"run {run.name}/{run.id} was cancelled, gave up or was lost: it will not complete",
        hint=f"sedd requeue {typed_name(run)} continues it; then repeat this",
    )
