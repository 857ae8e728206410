"""Whether a job that SLURM shows is the one that a run submitted. An id alone is no proof.

SLURM starts counting anew when its state is lost, and two clusters that share a folder count side by side. So a job
of ours carries a random token in its comment, and a run notes the token, the cluster, the user and the time of each
submission. Where a site rewrites comments, and for runs of format 1, the batch script's path shows whose job it is.
"""

import datetime as dt
import functools
import os
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sedd.cluster.command import DEFAULT_TIMEOUT_S
from sedd.cluster.jobs import JobFact, parse_time
from sedd.cluster.scontrol import query_job
from sedd.cluster.site import query_config
from sedd.cluster.users import may_be_same
from sedd.errors import ClusterError

_TOKEN = re.compile(r"\bsedd token=([0-9a-f]{16})\b")
_CONTINUES = re.compile(r"; continues=([0-9_]+)(?:;|$)")
_FOLDER = re.compile(r"; folder=(.+)$")
_EARLY_S, _LATE_S = 600.0, 300.0
"""SLURM may have taken a job so long before its submission was noted, or after it, by the clocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What the comment of a job of ours says.

    Attributes:
        folder: of the run, or of the sweep whose points are the tasks of the array.
        continues: the job that this one takes over from.
    """

    token: str
    folder: str | None
    continues: str | None = None

    def comment(self, users: str | None = None) -> str:
        """The whole comment; `users` is what the profile wants in it. The token is first: squeue cuts its columns."""
        continues = f"continues={self.continues}" if self.continues else None
        return "; ".join(
            filter(None, [f"sedd token={self.token}", users, continues, f"folder={self.folder}"])
        )


def new_mark(folder: Path, *, continues: str | None = None) -> Mark:
    """A mark that no other job carries."""
    return Mark(token=secrets.token_hex(8), folder=str(folder), continues=continues)


def parse_mark(comment: str | None) -> Mark | None:
    """The mark in a job's comment; None when it has none, as jobs of others and of format 1."""
    text = (comment or "").strip()
    token, continues, folder = (pattern.search(text) for pattern in (_TOKEN, _CONTINUES, _FOLDER))
    if token is None:
        return None
    return Mark(
        token=token[1],
        folder=folder[1] if folder else None,
        continues=continues[1] if continues else None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class JobIdentity:
    """The job of a submission, as the run's own events tell it. None: they do not say (runs of format 1)."""

    job_id: str
    noted_at: dt.datetime
    """When the submission was recorded."""
    cluster: str | None = None
    user: str | None = None
    token: str | None = None
    folders: tuple[str, ...] = ()
    """Where the batch script may lie."""
    submitted_at: dt.datetime | None = None
    """When SLURM says that it was submitted: exact, until SLURM requeues the job and counts from there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvenJob:
    """A job that was proven to be ours. Whatever changes a job takes one of these, never an id."""

    job_id: str
    fact: JobFact | None = None
    """As SLURM showed it at the proof. None: SLURM has forgotten it, or it is the job that this process runs in."""
    identity: JobIdentity | None = None
    """What a later answer of SLURM is held against; None: its proof was of another kind."""


class ForeignJobError(ClusterError):
    """Another job has the id now: the one that was meant is gone."""


class OtherClusterError(ClusterError):
    """The job is one of another cluster: the SLURM at hand knows nothing of it."""


def read_identity(
    submission: Mapping[str, Any], *, noted_at: dt.datetime, folders: Sequence[Path] = ()
) -> JobIdentity:
    """The job of a `submitted` event, given by its fields; `folders` hold submitit's files of the run and its sweep."""
    return JobIdentity(
        job_id=str(submission.get("job_id")),
        noted_at=noted_at,
        cluster=submission.get("cluster"),
        user=submission.get("user"),
        token=submission.get("token"),
        folders=tuple(str(folder) for folder in folders),
        submitted_at=parse_time(str(submission.get("submitted_at") or "")),
    )


def is_same_job(identity: JobIdentity, job: JobFact, *, cluster: str | None) -> bool:
    """Whether `job`, shown by the SLURM of `cluster` under the identity's id, is the one that was submitted."""
    if identity.cluster and cluster and identity.cluster != cluster:
        return False
    if not may_be_same(identity.user, job.user):
        return False
    if mark := parse_mark(job.comment):
        return mark.token == identity.token
    if job.script and identity.folders:
        return any(Path(job.script).is_relative_to(folder) for folder in identity.folders)
    return _is_same_time(identity, job)


def _is_same_time(identity: JobIdentity, job: JobFact) -> bool:
    if job.submitted_at is None:
        return False
    early_s = (identity.noted_at - job.submitted_at).total_seconds()
    if job.restarts:  # its time of submission is that of its last requeue
        return early_s <= _EARLY_S
    if identity.submitted_at is not None:
        return identity.submitted_at == job.submitted_at
    return -_LATE_S <= early_s <= _EARLY_S


def prove_job(identity: JobIdentity, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> ProvenJob:
    """The submitted job as SLURM shows it now, without a fact when SLURM has forgotten it.

    Raises:
        ForeignJobError: another job has its id now. OtherClusterError: it belongs to another cluster.
        SlurmUnreachableError, ClusterError: as `command.run`.
    """
    fact = query_job(identity.job_id, timeout_s=timeout_s)
    cluster = query_cluster_name(timeout_s=timeout_s) if identity.cluster else None
    if identity.cluster and cluster and identity.cluster != cluster:
        raise OtherClusterError(
            f"job {identity.job_id} is one of cluster {identity.cluster}, and this is cluster {cluster}",
            hint=f"repeat this on a login node of {identity.cluster}",
        )
    if fact is not None and not is_same_job(identity, fact, cluster=cluster):
        raise ForeignJobError(f"another job has the id {identity.job_id} now{_whose(fact)}")
    return ProvenJob(job_id=identity.job_id, fact=fact, identity=identity)


def own_job(job_id: str, identity: JobIdentity | None = None) -> ProvenJob:
    """The job that this process runs in: its environment is the proof, unless SLURM has lost its state since."""
    return ProvenJob(job_id=job_id, identity=identity)


def require_same(job: ProvenJob, fact: JobFact) -> None:
    """Raises: ForeignJobError when `fact`, which SLURM shows under the job's id now, is of another job."""
    shows_nothing = fact.submitted_at is None and not (fact.script or fact.comment)
    if job.identity is not None and not shows_nothing and not is_same_job(job.identity, fact, cluster=None):
        raise ForeignJobError(f"another job has the id {job.job_id} now{_whose(fact)}")


@functools.cache
def query_cluster_name(*, timeout_s: float = DEFAULT_TIMEOUT_S) -> str | None:
    """The name of the cluster that SLURM's commands talk to; None where it has none. Asked once a process.

    Raises:
        SlurmUnreachableError, ClusterError: as `command.run`.
    """
    # SLURM says it inside a job of ours; in a shell it may be left over from another cluster.
    own = os.environ.get("SLURM_CLUSTER_NAME") if os.environ.get("SUBMITIT_EXECUTOR") == "slurm" else None
    return own or query_config(timeout_s=timeout_s).cluster or None


def _whose(job: JobFact) -> str:
    """` (user2's training)`, as far as SLURM says."""
    named = " ".join(filter(None, [f"{job.user}'s" if job.user else "", job.name or ""]))
    return f" ({named})" if named else ""
