"""What slurmdbd remembers of jobs that squeue has forgotten. Optional: small clusters have no slurmdbd."""

import dataclasses
from collections.abc import Sequence

from sedd.cluster.command import DEFAULT_TIMEOUT_S, run
from sedd.cluster.jobs import (
    JobFact,
    array_of,
    expand_job_id,
    is_job_id,
    parse_exit,
    parse_limit_s,
    parse_time,
    text_or_none,
)
from sedd.cluster.states import JobState, parse_state

_FIELDS = "JobID JobIDRaw State ExitCode Submit Start End Timelimit NodeList Partition User JobName".split()
_GOES_ON = (JobState.REQUEUED, JobState.PREEMPTED, JobState.NODE_FAIL)
"""States in which sacct may record an attempt whose job continues."""


def query_sacct(job_ids: Sequence[str], *, timeout_s: float = DEFAULT_TIMEOUT_S) -> str:
    """sacct's lines for these jobs, every attempt of each (`--duplicates`), steps left out.

    Asked for whole arrays: thousands of `A_t` would not fit on a command line.

    Raises:
        SlurmUnreachableError: no answer, or no slurmdbd.
        ClusterError: as `command.run`.
    """
    jobs = ",".join(dict.fromkeys(array_of(job_id) for job_id in job_ids))
    command = ["sacct", "--allocations", "--duplicates", "--noheader", "--parsable2"]
    return run([*command, f"--jobs={jobs}", f"--format={','.join(_FIELDS)}"], timeout_s=timeout_s)


def parse_sacct(text: str) -> list[JobFact]:
    """One fact for each attempt of each job, in sacct's order: a job's newest attempt is its last fact.

    sacct does not count restarts, and shows the time of a requeue as that of the submission: an attempt that follows
    one that SLURM put back into the queue has `restarts`, one that follows an ended job is another job with its id.
    """
    facts: list[JobFact] = []
    requeues: dict[str, int] = {}
    for fact in (fact for line in text.splitlines() for fact in _parse_line(line)):
        restarts = requeues.get(fact.job_id, 0)
        facts.append(dataclasses.replace(fact, restarts=restarts))
        requeues[fact.job_id] = restarts + 1 if fact.state in _GOES_ON else 0
    return facts


def _parse_line(line: str) -> list[JobFact]:
    fields = line.split("|", len(_FIELDS) - 1)
    if len(fields) < len(_FIELDS) or not is_job_id(fields[0]):
        return []
    ids, slurm_id, state, exits, submitted, started, ended, limit, nodes, partition, user, name = fields
    parsed = parse_state(state)
    exit_code, exit_signal = parse_exit(exits) if ended.strip() != "Unknown" else (None, None)
    return [
        JobFact(
            job_id=job_id,
            slurm_id=slurm_id,
            state=parsed,
            name=name,
            user=text_or_none(user),
            partition=text_or_none(partition),
            nodes=text_or_none(nodes),
            submitted_at=parse_time(submitted),
            starts_at=parse_time(started),
            ended_at=parse_time(ended),
            time_limit_s=parse_limit_s(limit),
            exit_code=exit_code,
            exit_signal=exit_signal,
        )
        for job_id in expand_job_id(ids)
    ]
