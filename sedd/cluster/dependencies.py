"""Jobs that wait for other jobs to succeed, and how they come to wait for a successor instead."""

import re

from sedd.cluster.command import DEFAULT_TIMEOUT_S, run
from sedd.cluster.control import update_job
from sedd.cluster.identity import ProvenJob
from sedd.cluster.jobs import is_job_id

_SEPARATOR = "|"
_FORMAT = f"%i{_SEPARATOR}%E"
_STANDING = re.compile(r"\([a-z]+\)")


def after_success_of(job_ids: list[str]) -> str:
    """What sbatch's --dependency says for a job that waits until all of these have succeeded."""
    return ":".join(["afterok", *job_ids])


def move_dependents(
    old: ProvenJob, new: str, *, user: str, timeout_s: float = DEFAULT_TIMEOUT_S
) -> list[str]:
    """Make the jobs of `user` that wait for the success of `old` wait for that of `new`; returns their ids.

    Raises:
        SlurmUnreachableError, ClusterError: as `command.run`; those done before are moved.
    """
    waiting = parse_waiting(query_waiting(user, timeout_s=timeout_s))
    moved = [(job_id, moved_on(wish, old.job_id, new)) for job_id, wish in waiting.items()]
    changes = {job_id: wish for job_id, wish in moved if wish is not None}
    for job_id, wish in changes.items():
        # What waits for a job of ours is ours to redirect: its dependency is the proof.
        update_job(ProvenJob(job_id=job_id), dependency=wish, timeout_s=timeout_s)
    return list(changes)


def query_waiting(user: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> str:
    """squeue's lines, job and dependency, for the waiting jobs of a user. Raises: as `command.run`."""
    # --format, not --Format: a sweep's dependency on a sweep has no width that one could name beforehand.
    command = ["squeue", "--noheader", "--states=PENDING", f"--user={user}", f"--format={_FORMAT}"]
    return run(command, timeout_s=timeout_s)


def parse_waiting(text: str) -> dict[str, str]:
    """Job id to dependency, as SLURM shows it; the waiting tasks of an array are one job, named by the array."""
    pairs = (line.strip().partition(_SEPARATOR) for line in text.splitlines())
    return {
        job_id.partition("_[")[0]: wish
        for job_id, _, wish in pairs
        if is_job_id(job_id) and wish and not wish.startswith("(null")
    }


def moved_on(wish: str, old: str, new: str) -> str | None:
    """The dependency `wish`, as SLURM shows it, on `new` where it asks for the success of `old`; else None."""
    asked = _STANDING.sub("", wish).replace("_*", "")
    moved = re.sub(rf"(?<=afterok:){re.escape(old)}(?![0-9_])", new, asked)
    return None if moved == asked else moved
