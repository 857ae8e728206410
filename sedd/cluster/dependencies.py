"""Jobs that wait for other jobs to succeed, and how they come to wait for a successor instead."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sedd.cluster.command import DEFAULT_TIMEOUT_S, run
from sedd.cluster.control import update_job
from sedd.cluster.identity import ProvenJob, parse_mark
from sedd.cluster.jobs import is_job_id

_SEPARATOR = "|"
_FORMAT = f"%i{_SEPARATOR}%E{_SEPARATOR}%k"
_STANDING = re.compile(r"\([a-z]+\)")


def after(*, success_of: Sequence[str] = (), end_of: Sequence[str] = ()) -> str | None:
    """What sbatch's --dependency says for a job that waits until these have succeeded, and those have ended."""
    parts = [":".join(["afterok", *success_of])] if success_of else []
    parts += [":".join(["afterany", *end_of])] if end_of else []
    return ",".join(parts) or None


def move_dependents(
    old: ProvenJob, new: str, *, user: str, timeout_s: float = DEFAULT_TIMEOUT_S
) -> list[str]:
    """Make the jobs of `user` that wait for the success of `old` wait for that of `new`; returns their ids.

    So do jobs of ours that wait for its end; but `new` itself, which may, goes on doing so.

    Raises:
        SlurmUnreachableError, ClusterError: as `command.run`; those done before are moved.
    """
    waiting = parse_waiting(query_waiting(user, timeout_s=timeout_s))
    moved = [(job, moved_on(job.wish, old.job_id, new, ends=job.is_ours)) for job in waiting]
    changes = {job.job_id: wish for job, wish in moved if wish is not None and job.job_id != new}
    for job_id, wish in changes.items():
        # What waits for a job of ours is ours to redirect: its dependency is the proof.
        update_job(ProvenJob(job_id=job_id), dependency=wish, timeout_s=timeout_s)
    return list(changes)


def is_awaited_whole(array: str, *, user: str, timeout_s: float = DEFAULT_TIMEOUT_S) -> bool:
    """Whether a job of `user` waits for the success of a whole array, which none has whose task is cancelled.

    Raises:
        SlurmUnreachableError, ClusterError: as `command.run`.
    """
    waiting = parse_waiting(query_waiting(user, timeout_s=timeout_s))
    return any(wants_whole(job.wish, array) for job in waiting)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A job in the queue that waits for others; the waiting tasks of an array are one job, named by the array."""

    job_id: str
    wish: str
    """Its dependency, as SLURM shows it."""
    is_ours: bool
    """Whether its comment carries a run's token, and it does not itself continue another job."""


def query_waiting(user: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> str:
    """squeue's lines, job and dependency, for the waiting jobs of a user. Raises: as `command.run`."""
    # --format, not --Format: a sweep's dependency on a sweep has no width that one could name beforehand.
    command = ["squeue", "--noheader", "--states=PENDING", f"--user={user}", f"--format={_FORMAT}"]
    return run(command, timeout_s=timeout_s)


def parse_waiting(text: str) -> list[Waiting]:
    """The waiting jobs of squeue's lines."""
    found = []
    for line in text.splitlines():
        job_id, _, rest = line.strip().partition(_SEPARATOR)
        wish, _, comment = rest.partition(_SEPARATOR)
        if is_job_id(job_id) and wish and not wish.startswith("(null"):
            mark = parse_mark(comment)
            is_ours = mark is not None and mark.continues is None
            found.append(Waiting(job_id=job_id.partition("_[")[0], wish=wish, is_ours=is_ours))
    return found


def wants_whole(wish: str, array: str) -> bool:
    """Whether a dependency, as SLURM shows it, asks for the success of all tasks of an array, together or by pairs."""
    return re.search(rf"(afterok|aftercorr):{re.escape(array)}(?![0-9])(?!_[0-9])", wish) is not None


def moved_on(wish: str, old: str, new: str, *, ends: bool = False) -> str | None:
    """The dependency `wish`, as SLURM shows it, on `new` where it asks for the success of `old`; else None.

    With `ends` also where it asks for the end of `old`.
    """
    asked = _STANDING.sub("", wish).replace("_*", "")
    kinds = ("afterok", "afterany") if ends else ("afterok",)
    moved = asked
    for kind in kinds:
        moved = re.sub(rf"(?<={kind}:){re.escape(old)}(?![0-9_])", new, moved)
    return None if moved == asked else moved
