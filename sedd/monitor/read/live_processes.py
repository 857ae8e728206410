"""Is the process of a run's job alive? For runs of this machine that SLURM knows nothing of."""

import datetime as dt
import os
import socket
import time

from sedd.cluster.local import find_local, is_here, parse_local_id, query_local
from sedd.monitor.read.history import History

_SLACK_S = 5.0


def query_alive(history: History) -> bool | None:
    """Whether the newest attempt's job entry, or the job that will start it, lives; None: cannot be seen."""
    newest = history.attempts[-1] if history.attempts else None
    if newest is not None and history.last is not None and history.last.event != "submitted":
        return _is_alive(newest.host, newest.pid, newest.started) if newest.host else None
    if (job := parse_local_id(history.job_id)) is not None:
        return query_local(job) is not None if is_here(job) else None
    if history.submitted is None or not history.job_id.isdigit():
        return None
    return _is_alive(history.host, int(history.job_id), history.submitted)


def _is_alive(host: str, pid: int, noted: dt.datetime) -> bool | None:
    """Whether the process that had number `pid` at `noted` lives: one that started later is another one."""
    if host != socket.gethostname():
        return None
    process = find_local(pid)
    if process is None:
        return False
    booted = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)
    started = booted + process.start / os.sysconf("SC_CLK_TCK")
    return started <= noted.timestamp() + _SLACK_S
