"""End runs for good: recorded in their folders first, so that no job entry revives them."""

import contextlib
import datetime as dt
import os
from collections.abc import Sequence
from dataclasses import dataclass

from sedd.cluster.command import SlurmUnreachableError
from sedd.cluster.control import scancel
from sedd.cluster.identity import ProvenJob
from sedd.cluster.users import user_name
from sedd.launch.liveness import RunSituation, RunStatus, query_run_status
from sedd.launch.local_processes import GRACE_S, Role, ask_to_stop, end_all
from sedd.launch.unsubmitted import cancel_unsubmitted, confirm_all, has_no_job
from sedd.rundir.attempts import is_cancelled, was_over_when_cancelled
from sedd.rundir.events import STAYS, append_event, read_events
from sedd.rundir.layout import RunDir
from sedd.rundir.lock import one_action


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
    is_known = _confirm(runs)
    with contextlib.ExitStack() as stack:
        for run in sorted(runs, key=lambda run: run.path):
            stack.enter_context(one_action(run))
        unsubmitted = cancel_unsubmitted(runs, now=now)
        results = {run: _without_job(run, is_new, is_known) for run, is_new in unsubmitted.items()}
        results |= {run: _as_before(run) for run in runs if run not in results and _is_past(run)}
        results |= {each.run: each for each in _cancel([r for r in runs if r not in results], now)}
        return [results[run] for run in runs]


def _confirm(runs: Sequence[RunDir]) -> bool:
    """As `confirm_all`; False: SLURM does not answer, and none of the runs has a job to ask about."""
    try:
        confirm_all(runs)
    except SlurmUnreachableError:
        if not all(map(has_no_job, runs)):
            raise
        return False
    return True


def _without_job(run: RunDir, is_new: bool, is_known: bool) -> Cancelled:
    detail = "cancelled; it was not submitted yet" if is_new else "cancelled already; it was never submitted"
    if not is_known:
        word = "cancelled" if is_new else "cancelled already"
        detail = f"{word}; SLURM does not answer: if it has a job for the run, that ends by itself"
    return Cancelled(run=run, changed=is_new, detail=detail)


def _is_past(run: RunDir) -> bool:
    """Whether its events alone tell that there is nothing to cancel, and SLURM need not be asked."""
    return was_over_when_cancelled(read_events(run.events))


def _as_before(run: RunDir, *, unseen: bool = False) -> Cancelled:
    word = "cancelled" if is_cancelled(read_events(run.events)) else "given up"
    rest = "; SLURM does not answer: if its job still runs, that ends by itself" if unseen else ""
    return Cancelled(run=run, changed=False, detail=f"{word} already{rest}")


def _cancel(runs: Sequence[RunDir], now: dt.datetime) -> list[Cancelled]:
    seen = {run: _query(run) for run in runs}
    situations = [each for each in seen.values() if each is not None]
    marked = [s for s in situations if _is_open(s)]
    for situation in marked:
        over = {} if situation.status in _ALIVE else {"over": True}
        append_event(
            situation.run.events,
            "cancelled",
            attempt=situation.attempt,
            now=now,
            by=user_name(os.geteuid()),
            **over,
        )
    alive = [s for s in situations if s.status in _ALIVE]
    is_told = _end_jobs([s.job for s in alive if s.job is not None])
    local = [s for s in alive if s.executor != "slurm"]
    for situation in local:
        _ask_local(situation.run)
    killed = {s.run.path for s in local if not end_all(s.run, grace_s=GRACE_S)}
    unseen = [_as_before(run, unseen=True) for run, situation in seen.items() if situation is None]
    return unseen + [
        Cancelled(
            run=s.run,
            changed=s in marked,
            detail=_detail(s, is_killed=s.run.path in killed, is_told=is_told),
        )
        for s in situations
    ]


def _query(run: RunDir) -> RunSituation | None:
    """What state a run is in; None: SLURM does not answer, and by its events there is nothing to cancel any more."""
    try:
        return query_run_status(run)
    except SlurmUnreachableError:
        events = read_events(run.events)
        moves = [e.event for e in events if e.event not in STAYS]
        if is_cancelled(events) or moves[-1:] == ["gave_up"]:
            return None
        raise


def _end_jobs(jobs: Sequence[ProvenJob]) -> bool:
    """Ask SLURM to end the jobs; whether it answered. Where it did not, their entries see the event, and end them."""
    try:
        scancel(jobs)
    except SlurmUnreachableError:
        return False
    return True


_ALIVE = (RunStatus.RUNNING, RunStatus.WAITING)


def _is_open(situation: RunSituation) -> bool:
    """Whether there is something to cancel: a life, or a death that a requeue would undo."""
    if situation.status in (RunStatus.COMPLETED, RunStatus.STOPPED) or situation.cancelled:
        return False
    return situation.status in _ALIVE or situation.last != "gave_up"


def _ask_local(run: RunDir) -> None:
    """The job entry passes SIGTERM on to the training; before there is one, the controller must not start it."""
    if not ask_to_stop(run, Role.ENTRY, Role.TRAINING):
        ask_to_stop(run, Role.CONTROLLER)


def end_local(situation: RunSituation, *, by: str, now: dt.datetime) -> None:
    """End the processes of a local run, which saves first, so that nothing but a new submission revives it."""
    append_event(situation.run.events, "cancelled", attempt=situation.attempt, now=now, by=by)
    _ask_local(situation.run)
    end_all(situation.run, grace_s=GRACE_S)


def _detail(situation: RunSituation, *, is_killed: bool, is_told: bool) -> str:
    if situation.status is RunStatus.COMPLETED:
        return "completed already; nothing to cancel"
    if situation.status is RunStatus.STOPPED:
        return "stopped by rule already; nothing to cancel"
    if situation.status is RunStatus.PAUSED:
        return "cancelled; it waited at a rung, without a job"
    if not _is_open(situation):
        word = "cancelled" if situation.cancelled else "given up"
        rest = "; its processes are ended" if situation.status in _ALIVE else ""
        return f"{word} already{rest}"
    if situation.status is RunStatus.OVER:
        return (
            f"cancelled; it was not running: {situation.note}"
            if situation.note
            else "cancelled; it was not running"
        )
    if situation.executor == "slurm" and not is_told:
        return f"cancelled; SLURM does not answer: job {situation.job_id} ends by itself when it sees that"
    if situation.executor == "slurm":
        return f"cancelled, job {situation.job_id}"
    return "cancelled; killed after it did not end by itself" if is_killed else "cancelled"
