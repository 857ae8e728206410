"""One job as SLURM (or the local executor) sees it, and the small texts that job records are made of."""

import functools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from sedd.cluster.states import JobState

_NOTHING = frozenset(
    {"", "N/A", "NONE", "None", "(null)", "(None)", "Unknown", "UNKNOWN", "n/a", "None assigned"}
)
_JOB_ID = re.compile(r"\d+(?:_(?:\d+|\[[\d,:%.-]+\]))?(?:\+\d+)?")
_LIMIT = re.compile(r"(?:(?P<days>\d+)-)?(?:(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFact:
    """What one source shows of one job (or one array task). None: that source does not show it.

    Attributes:
        job_id: `123`, or `120_3` for task 3 of array 120: the name that `scontrol` and `scancel` take for it.
        slurm_id: the number SLURM counts with; for an array task it differs from `job_id`.
        reason: why the job waits, or why it ended.
        nodes: SLURM's node list, unexpanded: `v100-[1-2]`.
        excluded: nodes that it must not get, written likewise.
        starts_at: when it started; for a waiting job the expected start, if SLURM has one.
        preempted_at: when SLURM announced that a job of higher priority takes its nodes.
        restarts: how often SLURM requeued it.
        may_requeue: whether SLURM will requeue it (`Requeue=1`).
        ends_at: when SLURM will end it: at its time limit, or at the end of the grace time of its preemption.
        exit_code, exit_signal: of the batch script.
        comment: what its submitter wrote to it; holds the token of a job of ours.
        script: the path of the batch script.
    """

    job_id: str
    state: JobState
    slurm_id: str | None = None
    name: str | None = None
    user: str | None = None
    partition: str | None = None
    reason: str | None = None
    nodes: str | None = None
    excluded: str | None = None
    submitted_at: datetime | None = None
    starts_at: datetime | None = None
    ended_at: datetime | None = None
    ends_at: datetime | None = None
    preempted_at: datetime | None = None
    time_limit_s: int | None = None
    restarts: int | None = None
    may_requeue: bool | None = None
    exit_code: int | None = None
    exit_signal: int | None = None
    comment: str | None = None
    script: str | None = None


def array_of(job_id: str) -> str:
    """`120` for `120_3`, and for `120` itself."""
    return job_id.partition("_")[0]


def is_job_id(text: str) -> bool:
    """Whether this is how SLURM names a job: `123`, `123_4`, `123_[1-5,...]`, `123+1`."""
    return _JOB_ID.fullmatch(text.strip()) is not None


def expand_job_id(job_id: str) -> list[str]:
    """Every job that squeue's `123_[0-2,7%4]` means; a single job is itself.

    A range that SLURM cut short (`123_[1-5,...]`) gives what is left of it.
    """
    array, _, tasks = job_id.partition("_")
    if not tasks.startswith("["):
        return [job_id]
    return [f"{array}_{task}" for task in expand_range(tasks.strip("[]"))]


def expand_range(text: str) -> Iterator[int]:
    """The numbers in `0-3,7,10-20:5%2`, where `%2` is a parallelism limit."""
    for part in text.partition("%")[0].split(","):
        if match := re.fullmatch(r"(\d+)(?:-(\d+)(?::(\d+))?)?", part.strip()):
            first, last, step = match[1], match[2] or match[1], match[3] or "1"
            yield from range(int(first), int(last) + 1, max(1, int(step)))


def text_or_none(text: str) -> str | None:
    """None for the many ways in which SLURM prints nothing."""
    stripped = text.strip()
    return None if stripped in _NOTHING else stripped


def parse_time(text: str) -> datetime | None:
    """A moment in UTC from seconds since 1970, or from SLURM's ISO form, which is in the machine's zone."""
    stripped = text.strip()
    if stripped.isdigit():
        return _from_epoch(stripped)
    if stripped in _NOTHING:
        return None
    try:
        return datetime.fromisoformat(stripped).astimezone(UTC)
    except ValueError:
        return None


@functools.lru_cache(maxsize=4096)
def _from_epoch(digits: str) -> datetime | None:
    return datetime.fromtimestamp(int(digits), UTC) if int(digits) else None


@functools.lru_cache(maxsize=1024)  # ten thousand lines of squeue hold few different limits
def parse_limit_s(text: str) -> int | None:
    """Seconds in SLURM's `1-00:00:00`, `02:30:00`, `10:00`; None for `UNLIMITED` and for no limit given."""
    match = _LIMIT.fullmatch(text.strip())
    if not match:
        return None
    days, hours, minutes, seconds = (
        int(match[part] or 0) for part in ("days", "hours", "minutes", "seconds")
    )
    return days * 86400 + hours * 3600 + minutes * 60 + seconds


def parse_exit(text: str) -> tuple[int | None, int | None]:
    """Exit code and signal in `1:0` or `0:9`; (None, None) when there is none."""
    code, _, signal = text.strip().partition(":")
    if not code.isdigit():
        return None, None
    return int(code), int(signal) if signal.isdigit() else None
