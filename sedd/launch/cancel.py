"""End runs for good: said in their folders first, so that no job entry revives them."""

import datetime as dt
import getpass
from collections.abc import Sequence
from dataclasses import dataclass

from sedd.cluster.control import scancel
from sedd.launch.liveness import RunSituation, RunStatus, query_run_status
from sedd.launch.local_processes import GRACE_S, Role, ask_to_stop, end_all
from sedd.rundir.events import append_event
from sedd.rundir.layout import RunDir


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancelled:
    """What became of one run that was to be cancelled."""

    run: RunDir
    changed: bool
    """Whether it was cancelled now."""
    detail: str


def cancel(runs: Sequence[RunDir], *, now: dt.datetime) -> list[Cancelled]:
    """Cancel runs; those that ended already are left as they are, and say so.

    Raises:
        RunError, ClusterError: a run that cannot be looked at, before anything is changed; or SLURM refuses.
    """
    situations = [query_run_status(run) for run in runs]
    marked = [s for s in situations if _is_open(s)]
    for situation in marked:
        over = {} if situation.standing in _ALIVE else {"over": True}
        append_event(
            situation.run.events, "cancelled", attempt=situation.attempt, now=now, by=_user(), **over
        )
    scancel([s.job_id for s in situations if s.executor == "slurm" and s.standing in _ALIVE])
    local = [s for s in situations if s.executor != "slurm" and s.standing in _ALIVE]
    for situation in local:
        _ask_local(situation.run)
    killed = {s.run.path for s in local if not end_all(s.run, grace_s=GRACE_S)}
    return [
        Cancelled(run=s.run, changed=s in marked, detail=_detail(s, is_killed=s.run.path in killed))
        for s in situations
    ]


_ALIVE = (RunStatus.RUNNING, RunStatus.WAITING)


def _is_open(situation: RunSituation) -> bool:
    """Whether there is something to cancel: a life, or a death that a requeue would undo."""
    if situation.standing is RunStatus.COMPLETED or situation.cancelled:
        return False
    return situation.standing in _ALIVE or situation.last != "gave_up"


def _ask_local(run: RunDir) -> None:
    """The job entry passes SIGTERM on to the training; before there is one, the controller must not start it."""
    if not ask_to_stop(run, Role.ENTRY, Role.TRAINING):
        ask_to_stop(run, Role.CONTROLLER)


def _detail(situation: RunSituation, *, is_killed: bool) -> str:
    if situation.standing is RunStatus.COMPLETED:
        return "completed already; nothing to cancel"
    if not _is_open(situation):
        word = "cancelled" if situation.cancelled else "given up"
        rest = "; its processes are ended" if situation.standing in _ALIVE else ""
        return f"{word} already{rest}"
    if situation.standing is RunStatus.OVER:
        return "cancelled; it was not running"
    if situation.executor == "slurm":
        return f"cancelled, job {situation.job_id}"
    return "cancelled; killed after it did not end by itself" if is_killed else "cancelled"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
