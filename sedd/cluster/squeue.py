"""The queue in one question: every job of some users, however many there are."""

import datetime as dt
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import accumulate

from sedd.cluster.command import DEFAULT_TIMEOUT_S, run
from sedd.cluster.jobs import JobFact, expand_job_id, is_job_id, parse_limit_s, parse_time, text_or_none
from sedd.cluster.states import parse_state

# --Format cuts every field at its width. Comment and name are last: users write them, and may write the separator.
# Of the comment no more is asked than the token of a job of ours, with which it begins.
_WIDTHS = {
    "JobArrayID": 60,
    "JobID": 20,
    "State": 20,
    "Reason": 100,
    "NodeList": 250,
    "SubmitTime": 24,
    "StartTime": 24,
    "EndTime": 24,
    "TimeLimit": 24,
    "RestartCnt": 12,
    "Partition": 80,
    "UserName": 60,
    "Comment": 28,
    "Name": 120,
}
_SEPARATOR = "|"
FORMAT = ",".join(f"{field}:{width}{_SEPARATOR}" for field, width in _WIDTHS.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingJob:
    """A job that has not started.

    Attributes:
        reason: why SLURM says it waits: `Priority`, `DependencyNeverSatisfied`, …
        due: when SLURM plans to start it, or its `--begin`; None: no plan.
    """

    reason: str
    due: dt.datetime | None


def query_squeue(users: Sequence[str], *, timeout_s: float = DEFAULT_TIMEOUT_S) -> str:
    """squeue's lines for all jobs of `users`, also those that ended in the last MinJobAge (300 s by default).

    Asked by user, not by job: one unknown job id makes squeue refuse the whole question.

    Raises:
        SlurmUnreachableError, ClusterError: as `command.run`.
    """
    command = [
        "squeue",
        "--array",
        "--noheader",
        "--states=all",
        f"--user={','.join(users)}",
        f"--Format={FORMAT}",
    ]
    return run(command, timeout_s=timeout_s)


def query_comments(user: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> str:
    """squeue's lines with id and comment of a user's jobs that have not ended.

    Raises:
        SlurmUnreachableError, ClusterError: as `command.run`.
    """
    # %k is in every version; of --Format's separators older ones print none.
    return run(["squeue", "--array", "--noheader", f"--user={user}", "--format=%i|%k"], timeout_s=timeout_s)


def query_waiting(partitions: Collection[str], *, timeout_s: float = DEFAULT_TIMEOUT_S) -> list[WaitingJob]:
    """Everybody's waiting jobs in some partitions, as far as SLURM shows them.

    Raises:
        SlurmUnreachableError, ClusterError: as `command.run`.
    """
    where = [f"--partition={','.join(sorted(partitions))}"] if partitions else []
    command = ["squeue", "--noheader", "--states=PENDING", "--format=%S|%r", *where]
    return parse_waiting(run(command, timeout_s=timeout_s))


def parse_waiting(text: str) -> list[WaitingJob]:
    """The jobs in squeue's lines of start time and reason."""
    pairs = (line.split("|", 1) for line in text.splitlines() if "|" in line)
    return [WaitingJob(reason=reason.strip(), due=parse_time(start.strip())) for start, reason in pairs]


def parse_comments(text: str) -> dict[str, str]:
    """Comment of each job that has one, by job id."""
    pairs = (line.split("|", 1) for line in text.splitlines() if "|" in line)
    return {
        job_id.strip(): said
        for job_id, rest in pairs
        if is_job_id(job_id) and (said := text_or_none(rest.strip()))
    }


def parse_squeue(text: str) -> list[JobFact]:
    """One fact for each job, arrays expanded."""
    return [fact for line in text.splitlines() for fact in _parse_line(line)]


def _fields(line: str) -> list[str]:
    """The fields of a line; fewer than there should be for a warning between the lines.

    Older versions know no text after a width: they leave the separators out, and columns are all there is.
    """
    if line.count(_SEPARATOR) >= len(_WIDTHS) - 1:
        return [field.strip() for field in line.split(_SEPARATOR, len(_WIDTHS) - 1)]
    ends = list(accumulate(_WIDTHS.values()))
    if len(line) <= ends[-2]:
        return []
    return [line[end - width : end].strip() for end, width in zip(ends, _WIDTHS.values(), strict=True)]


def _parse_line(line: str) -> list[JobFact]:
    fields = _fields(line)
    if len(fields) < len(_WIDTHS) or not is_job_id(fields[0]):
        return []
    ids, slurm_id, state, reason, nodes, submitted, starts, ends, limit, restarts, partition, user, *rest = (
        fields
    )
    comment, name = rest
    parsed = parse_state(state)
    return [
        JobFact(
            job_id=job_id,
            slurm_id=slurm_id,
            state=parsed,
            name=name.rstrip().removesuffix(_SEPARATOR).rstrip(),
            user=user,
            partition=partition,
            reason=text_or_none(reason),
            nodes=text_or_none(nodes),
            submitted_at=parse_time(submitted),
            starts_at=parse_time(starts),
            ended_at=parse_time(ends) if parsed.is_final else None,
            time_limit_s=parse_limit_s(limit),
            restarts=int(restarts) if restarts.isdigit() else None,
            comment=text_or_none(comment),
        )
        for job_id in expand_job_id(ids)
    ]
