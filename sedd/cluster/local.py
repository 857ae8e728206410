"""Jobs without SLURM: is the process that supervises a local run alive? Facts from /proc, and signals."""

import os
import re
import signal
import socket
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from sedd.cluster.jobs import JobFact
from sedd.cluster.states import JobState

_ID = re.compile(r"(?P<host>[^:/\s]+):(?P<pid>\d+):(?P<start>\d+)")
_CLOCK_SLACK_S = 5.0
_PROC = Path("/proc")
_PF_EXITING, _PF_SIGNALED = 0x4, 0x400
"""Of the kernel's flags of a process (include/linux/sched.h): it is being taken down; a signal has killed it."""
_SIGKILL_BIT = 1 << (signal.SIGKILL - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalJob:
    """One process for as long as it lives: a number alone could be another process tomorrow.

    Attributes:
        start: clock ticks from boot to the start of the process.
    """

    host: str
    pid: int
    start: int

    @property
    def job_id(self) -> str:
        """`host:pid:start`, which `parse_local_id` reads back."""
        return f"{self.host}:{self.pid}:{self.start}"


def parse_local_id(text: str) -> LocalJob | None:
    """The process that a local job id names; None when the text is none (SLURM's have no colon)."""
    match = _ID.fullmatch(text)
    return LocalJob(host=match["host"], pid=int(match["pid"]), start=int(match["start"])) if match else None


def parse_start(stat: str) -> int | None:
    """When the process of a `/proc/PID/stat` line started, in ticks; None for one that is dead, or as good as dead.

    On a busy machine a process that got SIGKILL may stay in /proc for seconds, until it is its turn to die: whoever
    relies on it meanwhile relies on nobody.
    """
    # The command's name, in parentheses, may itself hold spaces and parentheses.
    state, *rest = stat.rpartition(")")[2].split()
    flags, pending, start = int(rest[5]), int(rest[27]), int(rest[18])
    is_dying = bool(flags & (_PF_EXITING | _PF_SIGNALED) or pending & _SIGKILL_BIT)
    return None if is_dying or state in ("Z", "X", "x") else start


def local_fact(job: LocalJob, *, start: int | None, host: str) -> JobFact | None:
    """The job as its process shows it, given the start of the process that has its number now.

    None when this machine cannot tell: the process ended (why, only the run's own events know), or it is on
    another host.
    """
    if job.host != host or start != job.start:
        return None
    return JobFact(job_id=job.job_id, state=JobState.RUNNING, nodes=host)


def query_local(job: LocalJob) -> JobFact | None:
    """As `local_fact`, from this machine's /proc."""
    return local_fact(job, start=_query_start(job.pid), host=socket.gethostname())


def find_local(pid: int) -> LocalJob | None:
    """The name for the process that has number `pid` now; None when there is none."""
    start = _query_start(pid)
    return None if start is None else LocalJob(host=socket.gethostname(), pid=pid, start=start)


def is_process_of(pid: int, noted_at: datetime) -> bool:
    """Whether the process that had number `pid` on this machine at `noted_at` lives: one that started later is another.

    That holds across a reboot, too, after which every process has started later.
    """
    process = find_local(pid)
    if process is None:
        return False
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    return booted + process.start / os.sysconf("SC_CLK_TCK") <= noted_at.timestamp() + _CLOCK_SLACK_S


def is_here(job: LocalJob) -> bool:
    """Whether the job runs, or ran, on this machine."""
    return job.host == socket.gethostname()


def signal_local(job: LocalJob, signal_number: int) -> bool:
    """Send a signal to the job's process; False when it has ended or is on another host."""
    if query_local(job) is None:
        return False
    try:
        os.kill(job.pid, signal_number)
    except ProcessLookupError:
        return False
    return True


def _query_start(pid: int) -> int | None:
    try:
        return parse_start((_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace"))
    except (FileNotFoundError, ProcessLookupError):
        return None
