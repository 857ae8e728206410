"""Whether the process of a run's job is alive, for runs of this machine without SLURM."""

import datetime as dt
import socket

from sedd.cluster.local import is_here, is_process_of, parse_local_id, query_local
from sedd.monitor.read.history import History


def query_alive(history: History) -> bool | None:
    """Whether the newest attempt's job entry, or the job that will start it, lives; None: cannot be seen."""
    newest = history.attempts[-1] if history.attempts else None
    if newest is not None and history.last is not None and history.last.event != "submitted":
        return _is_alive(newest.host, newest.pid, newest.started) if newest.host else None
    if (job := parse_local_id(history.job_id)) is not None:
        if not is_here(job):
            return None
        return query_local(job) is not None and (
            history.job_noted is None or is_process_of(job.pid, history.job_noted)
        )
    if history.job_noted is None or not history.job_id.isdigit():
        return None
    return _is_alive(history.host, int(history.job_id), history.job_noted)


def _is_alive(host: str, pid: int, noted: dt.datetime) -> bool | None:
    """Whether the process that had number `pid` at `noted` lives; None where it cannot be seen."""
    return is_process_of(pid, noted) if host == socket.gethostname() else None
