"""Let a plan go on: revive what has ended without completing, leave alone what runs or waits for its turn."""

import datetime as dt
import os
from collections.abc import Sequence

from sedd.cluster.control import update_job
from sedd.errors import SeddError
from sedd.launch.liveness import RunSituation, RunStatus, query_run_status
from sedd.launch.predecessors import dependency_on, read_needs
from sedd.launch.requeue import Check, Requeued, requeue
from sedd.launch.unsubmitted import confirm_all
from sedd.launch.wake import wake_sweeps_of
from sedd.rundir.attempts import is_completed, is_left_out, is_stopped, is_unsubmitted
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir
from sedd.rundir.lock import one_action
from sedd.rundir.owner import own_runs
from sedd.rundir.plan_record import PlanRecord

_IN_VAIN = "DependencyNeverSatisfied"
"""SLURM's reason for a job that waits for the success of one that has failed."""


def requeue_plan(
    record: PlanRecord, *, now: dt.datetime, check: Check | None = None
) -> dict[RunDir, Requeued | SeddError]:
    """What became of each run of a plan that is not done: those first for which others wait; `check` as `requeue`'s.

    Raises:
        SeddError: whether runs have jobs is not known.
    """
    there = [run for run in record.runs if os.path.exists(run.manifest)]
    runs = [run for run in own_runs(there) if not _is_done(record, run)]
    confirm_all(runs)
    wake_sweeps_of(runs)
    outcomes: dict[RunDir, Requeued | SeddError] = {}
    for stage in record.stages:
        refused = [run for run, outcome in outcomes.items() if isinstance(outcome, SeddError)]
        ours = [run for run in stage.runs if run in runs]
        outcomes |= {run: _left_alone(run) for run in ours if record.is_in_vain(run, refused)}
        waiting = [r for r in ours if r not in outcomes and is_unsubmitted(read_events(r.events))]
        outcomes |= _together(waiting, now)
        for run in ours:
            if run not in outcomes:
                outcomes[run] = _one(run, now, check)
    return outcomes


def _left_alone(run: RunDir) -> Requeued:
    """The outcome for a run that needs another one which was refused: the error of that one says why."""
    return Requeued(run=run, changed=False, detail="left alone: a run that it needs does not go on yet")


def _together(runs: Sequence[RunDir], now: dt.datetime) -> dict[RunDir, Requeued | SeddError]:
    """Submit what has no job yet; of a sweep as arrays."""
    if not runs:
        return {}
    try:
        return dict(zip(runs, requeue(runs, now=now), strict=True))
    except SeddError as e:
        return dict.fromkeys(runs, e)


def _one(run: RunDir, now: dt.datetime, check: Check | None) -> Requeued | SeddError:
    try:
        situation = query_run_status(run)
        if situation.status is RunStatus.WAITING:
            return _mended(situation)
        if situation.status is RunStatus.RUNNING and not situation.cancelled and situation.last != "gave_up":
            return Requeued(run=run, changed=False, detail="runs, or waits for what it needs")
        return requeue([run], now=now, check=check)[0]
    except SeddError as e:
        return e


def _mended(situation: RunSituation) -> Requeued:
    """A job that waits in vain waits for the runs that it needs as they are now."""
    run, job = situation.run, situation.job
    if job is None or job.fact is None or job.fact.reason != _IN_VAIN:
        return Requeued(run=run, changed=False, detail=f"waits in the queue already, job {situation.job_id}")
    with one_action(run):
        update_job(job, dependency=dependency_on(read_needs(run), executor="slurm") or "")
    return Requeued(run=run, changed=True, detail=f"waits for its turn again, job {situation.job_id}")


def _is_done(record: PlanRecord, run: RunDir) -> bool:
    """Whether a run has completed; or is left out, and what it waited for cannot happen any more."""
    events = read_events(run.events)
    if not is_left_out(events):
        return is_completed(events) or is_stopped(events)
    return all(is_completed(read_events(need.events)) for need, _ in record.needs_of(run))
