"""What a run waits for before its first attempt: SLURM's dependency says when to look, the run folders decide.

Without SLURM the job entry waits itself. What is chosen among earlier runs, such as the best of a sweep, is chosen
here too: when all of them have ended, from what they have written.
"""

import time
from pathlib import Path

from sedd.errors import ClusterError, RunError
from sedd.halving.fellows import read_halving
from sedd.job.attempt import Task
from sedd.job.continuation import find_or_submit
from sedd.job.final_events import record_event_with_retry
from sedd.job.own_job import own_job_of
from sedd.job.processes import SignalBox, signals_held
from sedd.launch.liveness import RunStatus, query_run_status
from sedd.launch.predecessors import Needs, Start, dependency_on, judge_needs, read_needs
from sedd.launch.wake import try_to_wake
from sedd.rundir.attempts import LEFT_OUT_BY, is_cancelled, is_paused
from sedd.rundir.best import link_best
from sedd.rundir.events import read_events
from sedd.rundir.fence import newest_attempt
from sedd.rundir.layout import RunDir, read_manifest
from sedd.rundir.presence import Presence

POLL_S = 1.0
DEAD_S = 15.0
"""A run without a last word and without a process counts as ended after so long: it may be starting again."""


def await_needs(task: Task, box: SignalBox) -> bool:
    """Whether the run may begin; waits for that where no scheduler does. False: it ended here, and that is recorded.

    Raises:
        RunError: SLURM has started it before what it needs.
    """
    needs = read_needs(task.run)
    is_dead = _ended_by_slurm if task.environment.executor == "slurm" else _Dead()
    presence = Presence(task.run)
    while True:
        start, why = judge_needs(needs, has_ended=is_dead)
        if start is Start.NOW:
            break
        if start in (Start.NEVER, Start.STOPPED):
            _leave_out(task, why, start)
            return False
        if task.environment.executor == "slurm":
            return _judge_again_later(task, needs, why)
        if box.received or presence.is_gone(time.monotonic()) or is_cancelled(read_events(task.run.events)):
            return False
        time.sleep(POLL_S)
    for link, runs in (read_manifest(task.run).get("best") or {}).items():
        link_best(Path(link), [RunDir(Path(path)) for path in runs])
    return True


def _leave_out(task: Task, why: str, start: Start) -> None:
    print(why, flush=True)
    if task.environment.is_first:
        event, by = ("stopped", "halving") if start is Start.STOPPED else ("cancelled", LEFT_OUT_BY)
        attempt = newest_attempt(read_events(task.run.events))
        record_event_with_retry(task.run, event, attempt=attempt, detail=why, by=by, over=True)


def _judge_again_later(task: Task, needs: Needs, why: str) -> bool:
    """A point of a halving sweep has had a job that ended, at a rung, before the run did: look again later.

    That is when those jobs have ended that its sweep has now.

    Raises:
        RunError: no such run is needed, or nobody is left that could decide.
    """
    points = [run for run in (*needs.completed, *needs.ended, *needs.failed) if read_halving(run)]
    if not points:
        raise RunError(why)
    if not task.environment.is_first:
        return False
    with signals_held():
        for run in [run for run in points if is_paused(read_events(run.events))]:
            try_to_wake(run)
        dependency = dependency_on(needs, executor="slurm")
        if dependency is None:
            raise RunError(f"{why}, and none of them has a job", hint="sedd requeue lets the sweep go on")
        events = read_events(task.run.events)
        job_id = find_or_submit(task, own_job_of(task, events), events, (), dependency=dependency)
    print(f"{why}; job {job_id} looks again when the jobs of its sweep have ended", flush=True)
    return False


def _ended_by_slurm(run: RunDir) -> bool:
    """Whether nothing of a run lives any more; where SLURM does not say, its having started us says so."""
    if is_paused(read_events(run.events)):
        return False
    try:
        return query_run_status(run).status not in (RunStatus.RUNNING, RunStatus.WAITING)
    except (ClusterError, RunError):
        return True


class _Dead:
    """Remembers since when a run of this machine has had no process."""

    def __init__(self) -> None:
        self._since: dict[RunDir, float] = {}

    def __call__(self, run: RunDir) -> bool:
        try:
            lives = query_run_status(run).status is not RunStatus.OVER
        except RunError:  # of another machine: its events will tell
            lives = True
        if lives:
            self._since.pop(run, None)
            return False
        now = time.monotonic()
        return now - self._since.setdefault(run, now) > DEAD_S
