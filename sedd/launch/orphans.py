"""Jobs of ours that belong to no run folder: it was deleted or moved while they waited or ran.

A job says in its comment which token it carries and where its run lives. What carries no token of ours is somebody
else's business, and is neither shown nor touched.
"""

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from sedd.cluster.control import scancel
from sedd.cluster.identity import Mark, ProvenJob, parse_mark
from sedd.cluster.jobs import JobFact
from sedd.cluster.scontrol import query_jobs
from sedd.cluster.squeue import parse_comments, query_comments
from sedd.cluster.users import may_be_same, user_name
from sedd.errors import RunError
from sedd.launch.unconfirmed import find_notes
from sedd.rundir.events import read_events
from sedd.rundir.find import list_runs, list_runs_of_name
from sedd.rundir.layout import RunDir, read_manifest
from sedd.rundir.presence import is_gone

Claim = tuple[str, str]
"""A token and a job id: what a run's `submitted` event says of its job."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Orphan:
    """A job of ours that has not ended and belongs to no run folder."""

    job: JobFact
    folder: str
    """Where its run, or its sweep, was."""

    @property
    def description(self) -> str:
        """`job 123 (small) belongs to no run folder: /runs/small/… is gone`."""
        return f"{_named(self.job)} belongs to no run folder: {self.absence}"

    @property
    def absence(self) -> str:
        """`/runs/small/… is gone`."""
        return f"{self.folder} {'is gone' if is_gone(Path(self.folder)) else 'has no run of it'}"


def find_orphans(jobs: Iterable[JobFact], *, user: str, claimed: Collection[Claim]) -> list[Orphan]:
    """The orphans among a user's jobs as squeue shows them; `claimed` are the jobs of runs that are known already.

    Only where a job is left that no known run claims, SLURM is asked for the whole comments.

    Raises:
        SlurmUnreachableError, ClusterError: as `query_comments`.
    """
    suspects = [
        job
        for job in jobs
        if job.user == user
        and not job.state.is_final
        and (mark := parse_mark(job.comment))
        and (mark.token, job.job_id) not in claimed
    ]
    if not suspects:
        return []
    comments = parse_comments(query_comments(user))
    search = _Search()
    found = []
    for job in suspects:
        mark = parse_mark(comments.get(job.job_id))
        if mark is not None and mark.folder and search.run_of(mark, job.job_id) is None:
            found.append(Orphan(job=job, folder=mark.folder))
    return [orphan for orphan in found if not search.is_in_doubt(Path(orphan.folder))]


def find_owner(job_id: str, *, runs: Path) -> RunDir | list[Orphan]:
    """The run whose job this is, by its token, wherever it lives now; or the job itself, of an array all tasks.

    Nothing when SLURM has no such job that waits or runs.

    Raises:
        RunError: it is not one of ours, or it is another user's.
        SlurmUnreachableError, ClusterError: as `query_jobs`.
    """
    jobs = [job for job in query_jobs(job_id) if not job.state.is_final]
    orphans, search = [], _Search()
    for job in jobs:
        mark = _require_ours(job)
        if run := search.run_of(mark, job.job_id) or _moved_run(mark, job.job_id, runs):
            return run
        orphans.append(Orphan(job=job, folder=mark.folder or ""))
    if orphans and search.is_in_doubt(Path(orphans[0].folder)):
        raise RunError(
            f"job {job_id} is being submitted from {orphans[0].folder}, or that folder may not be read",
            hint="repeat this in a minute",
        )
    return orphans


def cancel_orphans(orphans: Collection[Orphan]) -> None:
    """End jobs whose token has shown that they are ours. Raises: SlurmUnreachableError, ClusterError."""
    scancel([ProvenJob(job_id=orphan.job.job_id, fact=orphan.job) for orphan in orphans])


class _Search:
    """Looks for the run of a job where its comment says; each folder is read once."""

    def __init__(self) -> None:
        self._claims: dict[str, dict[Claim, RunDir]] = {}
        self._tokens: dict[str, set[str]] = {}

    def run_of(self, mark: Mark, job_id: str) -> RunDir | None:
        """The run that has submitted the job, if it is still where the job says."""
        folder = mark.folder or ""
        if folder not in self._claims:
            self._claims[folder] = {claim: run for run in _runs_at(Path(folder)) for claim in _claims(run)}
        return self._claims[folder].get((mark.token, job_id))

    def is_in_doubt(self, folder: Path) -> bool:
        """Whether whose job it is is not known yet: it is being submitted, or the folder may not be read."""
        if is_gone(folder):
            return False
        return not os.access(folder, os.R_OK | os.X_OK) or bool(find_notes(folder / "submitit"))


def _runs_at(folder: Path) -> list[RunDir]:
    """The run in a folder; of a sweep's folder its points."""
    run = RunDir(folder)
    if run.manifest.exists():
        return [run]
    if not folder.is_dir():
        return []
    return [point for point in list_runs_of_name(folder.parent) if _sweep_of(point) == folder.name]


def _sweep_of(run: RunDir) -> str | None:
    try:
        return read_manifest(run).get("sweep")
    except RunError:
        return None


def _claims(run: RunDir) -> list[Claim]:
    """Every job that the run has submitted."""
    return [
        (str(event.get("token")), str(event.get("job_id")))
        for event in read_events(run.events)
        if event.event == "submitted" and event.get("token")
    ]


def _moved_run(mark: Mark, job_id: str, runs: Path) -> RunDir | None:
    """The run of a job below another root, or under another name."""
    return next((run for run in list_runs(runs) if (mark.token, job_id) in _claims(run)), None)


def _require_ours(job: JobFact) -> Mark:
    """Raises: RunError where the job is another's: it is not ours to end."""
    mark = parse_mark(job.comment)
    if mark is None:
        raise RunError(
            f"{_named(job)} was not submitted by sedd: its comment has no token of a run",
            hint=f"if it is yours: scancel {job.job_id}",
        )
    if os.geteuid() != 0 and not may_be_same(user_name(os.geteuid()), job.user):
        raise RunError(f"{_named(job)} is a job of {job.user}", hint="only they can cancel it")
    return mark


def _named(job: JobFact) -> str:
    return f"job {job.job_id} ({job.name})" if job.name else f"job {job.job_id}"
