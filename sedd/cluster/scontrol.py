"""`scontrol show`, parsed: jobs with all that SLURM knows of them, and the records of the site itself."""

import re

from sedd.cluster.command import DEFAULT_TIMEOUT_S, run
from sedd.cluster.jobs import (
    JobFact,
    array_of,
    expand_range,
    parse_exit,
    parse_limit_s,
    parse_time,
    text_or_none,
)
from sedd.cluster.states import parse_state
from sedd.errors import ClusterError

Record = dict[str, str]

_KEY = re.compile(r"(?:^|(?<=\s))([A-Za-z][A-Za-z0-9_:/.\[\]-]*)=")
# Free text goes to the end of its line: a job named "x JobState=FAILED" must not speak for SLURM.
_FREE_TEXT = frozenset(
    "JobName Command WorkDir StdErr StdIn StdOut Comment AdminComment SystemComment Reason".split()
)
_FORGOTTEN = re.compile(
    r"scontrol show job \S+: (?:slurm_\w+ error: )?(?:Invalid job id specified|Job \S+ not found)"
)
_FREE_TEXT_OF_JOBS = _FREE_TEXT - {"Reason"}


def query_job(job_id: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> JobFact | None:
    """The job as SLURM knows it now, or None when SLURM has forgotten it (some MinJobAge after its end).

    Raises:
        SlurmUnreachableError, ClusterError: as `command.run`.
    """
    return next((fact for fact in query_jobs(job_id, timeout_s=timeout_s) if fact.job_id == job_id), None)


def query_jobs(job_id: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> list[JobFact]:
    """As `query_job`, of an array all tasks; nothing when SLURM has forgotten the job."""
    try:
        return parse_jobs(run(["scontrol", "show", "job", job_id], timeout_s=timeout_s))
    except ClusterError as e:
        if _FORGOTTEN.fullmatch(e.message):
            return []
        raise


def query_hostnames(nodes: str, *, timeout_s: float = DEFAULT_TIMEOUT_S) -> list[str]:
    """The nodes that SLURM's list names: `v100-1` and `v100-2` in `v100-[1-2]`.

    Raises:
        SlurmUnreachableError, ClusterError: as `command.run`.
    """
    return run(["scontrol", "show", "hostnames", nodes], timeout_s=timeout_s).split()


def parse_jobs(text: str) -> list[JobFact]:
    """One fact for each job of `scontrol show job`, pending array tasks expanded."""
    return [
        fact for record in parse_records(text, free_text=_FREE_TEXT_OF_JOBS) for fact in _job_facts(record)
    ]


def parse_records(text: str, *, free_text: frozenset[str] = _FREE_TEXT) -> list[Record]:
    """The `Key=value` records of `scontrol show job|partition|node`: each starts at an unindented line."""
    records: list[Record] = []
    for line in text.splitlines():
        pairs = _pairs(line, free_text)
        # Not at blank lines: 24.11 has one inside a node's record, before its Reason.
        if pairs and not line[0].isspace():
            records.append({})
        for key, value in pairs:
            if records:
                records[-1].setdefault(key, value)
    return records


def _pairs(line: str, free_text: frozenset[str]) -> list[tuple[str, str]]:
    keys = list(_KEY.finditer(line))
    ends = [key.start() for key in keys[1:]] + [len(line)]
    pairs: list[tuple[str, str]] = []
    for key, end in zip(keys, ends[: len(keys)], strict=True):
        if key[1] in free_text:
            return [*pairs, (key[1], line[key.end() :].strip())]
        pairs.append((key[1], line[key.end() : end].strip()))
    return pairs


def _job_facts(record: Record) -> list[JobFact]:
    if "JobId" not in record:
        return []
    state = parse_state(record.get("JobState", ""))
    exit_code, exit_signal = parse_exit(record.get("ExitCode", "")) if state.is_final else (None, None)
    restarts = record.get("Restarts", "")
    return [
        JobFact(
            job_id=job_id,
            slurm_id=record["JobId"],
            state=state,
            name=record.get("JobName"),
            user=record.get("UserId", "").partition("(")[0] or None,
            partition=text_or_none(record.get("Partition", "")),
            reason=text_or_none(record.get("Reason", "")),
            nodes=text_or_none(record.get("NodeList", "")),
            excluded=text_or_none(record.get("ExcNodeList", "")),
            submitted_at=parse_time(record.get("SubmitTime", "")),
            starts_at=parse_time(record.get("StartTime", "")),
            ended_at=parse_time(record.get("EndTime", "")) if state.is_final else None,
            ends_at=None if state.is_final else parse_time(record.get("EndTime", "")),
            preempted_at=parse_time(record.get("PreemptTime", "")),
            time_limit_s=parse_limit_s(record.get("TimeLimit", "")),
            restarts=int(restarts) if restarts.isdigit() else None,
            may_requeue={"1": True, "0": False}.get(record.get("Requeue", "")),
            exit_code=exit_code,
            exit_signal=exit_signal,
            comment=text_or_none(record.get("Comment", "")),
            script=text_or_none(record.get("Command", "")),
        )
        for job_id in _names(record)
    ]


def _names(record: Record) -> list[str]:
    array, tasks = record.get("ArrayJobId"), record.get("ArrayTaskId", "")
    if not array:
        return [array_of(record["JobId"])]
    return [f"{array}_{task}" for task in expand_range(tasks)]
