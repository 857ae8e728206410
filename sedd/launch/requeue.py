"""Let runs go on: revive those that ended without completing, move running ones."""

import contextlib
import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from sedd.cluster.control import pauses_after_requeue, release, scancel, update_job
from sedd.cluster.profile import SlurmProfile
from sedd.cluster.states import JobState
from sedd.cluster.stopping import is_held_after_launch
from sedd.errors import ClusterError, RunError
from sedd.launch.liveness import RunSituation, RunStatus, count_submissions, query_run_status
from sedd.launch.local_processes import GRACE_S, Role, ask_to_stop, end_all, find_members
from sedd.launch.predecessors import dependency_on, move_dependents, read_needs
from sedd.launch.protocol import names_of
from sedd.launch.resources import Parameters, read_manifest_profile, slurm_parameters
from sedd.launch.submit_local import submit_local
from sedd.launch.submit_slurm import submit_slurm
from sedd.launch.unsubmitted import confirm_all, submit_unsubmitted
from sedd.rundir.attempts import MOVED_BY, parse_attempts, saved_step, slowest_save_s
from sedd.rundir.events import append_event, read_events
from sedd.rundir.heartbeat import read_heartbeat
from sedd.rundir.layout import RunDir
from sedd.rundir.lock import one_action
from sedd.spec.load import load_resolved
from sedd.spec.task import TaskSpec

_EXIT_GRACE_S = 20.0
"""For the processes of a local run that has given up, to exit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Requeued:
    """What became of one run that was to go on."""

    run: RunDir
    changed: bool
    detail: str


Check = Callable[[RunDir], None]
"""Raises where a run would not come to its end."""


def requeue(runs: Sequence[RunDir], *, now: dt.datetime, check: Check | None = None) -> list[Requeued]:
    """Make each run go on from its newest checkpoint; `check` is asked about one that is to be submitted again.

    Raises:
        RunError: one of them is completed, and nothing is done to any; or `check` raises.
        ClusterError: SLURM refuses, or does not answer.
    """
    confirm_all(runs)
    results = submit_first(runs)
    others = [run for run in runs if run not in results]
    before = {run: count_submissions(read_events(run.events)) for run in others}
    with contextlib.ExitStack() as stack:
        for run in sorted(others, key=lambda run: run.path):
            stack.enter_context(one_action(run))
        results |= {each.run: each for each in _requeue(others, before, now, check)}
    return [results[run] for run in runs]


def submit_first(runs: Sequence[RunDir]) -> dict[RunDir, Requeued]:
    """Submit those of the runs that were not submitted yet, as arrays, as far as the site takes them.

    Raises:
        RunError, ClusterError: as `submit_unsubmitted`.
    """
    reasons = submit_unsubmitted(runs)
    return {
        run: Requeued(
            run=run, changed=why is None, detail=f"not submitted yet: {why}" if why else "submitted"
        )
        for run, why in reasons.items()
    }


def _requeue(
    runs: Sequence[RunDir], before: Mapping[RunDir, int], now: dt.datetime, check: Check | None
) -> list[Requeued]:
    """As `requeue`; `before` counts each run's submissions when the command began to wait for its turn."""
    situations = [query_run_status(run) for run in runs]
    if done := [s for s in situations if s.status is RunStatus.COMPLETED]:
        raise completed_error(done[0].run)
    return [
        _already_submitted(s) if s.submissions > before[s.run] else _requeue_one(s, now, check)
        for s in situations
    ]


def completed_error(run: RunDir) -> RunError:
    """The error for a run that is to go on and has completed."""
    is_training = load_resolved(run.spec).task == "train"
    more = "sedd extend RUN --steps N gives it more steps; " if is_training else ""
    return RunError(
        f"run {run.id} is completed: there is nothing to go on with",
        hint=f"{more}sedd submit --resubmit SPEC {'trains' if is_training else 'does'} the same anew",
    )


def revive(situation: RunSituation) -> None:
    """Submit a run again, into its own folder, with the code that it was frozen with.

    Runs that wait for it (`--after`) go on waiting, for its new job.

    Raises:
        RunError, ClusterError: it could not be submitted, and is as it was; or it was, and the message says so.
    """
    run, profile = situation.run, read_manifest_profile(situation.run)
    if not isinstance(profile, SlurmProfile):
        submit_local([run])
        return
    parameters = revival_parameters(run, load_resolved(run.spec), profile)
    (job_id,) = submit_slurm([run], parameters, folder=run.submitit)
    try:
        if situation.job is not None:
            move_dependents(situation.job, job_id)
    except ClusterError as e:
        message = (
            f"run {run.id} is submitted again as job {job_id}, "
            f"but jobs that wait for it still wait for the old job: {e.message}"
        )
        raise ClusterError(message, hint=e.hint) from e


def revival_parameters(run: RunDir, experiment: TaskSpec, profile: SlurmProfile) -> Parameters:
    """Parameters of the job that goes on with a run. Raises: RunError, ClusterError where nothing can be waited for."""
    return slurm_parameters(
        experiment,
        profile,
        code=run.code,
        submitit=run.submitit,
        names=names_of(run),
        save_s=slowest_save_s(read_events(run.events)),
        dependency=dependency_on(read_needs(run), executor="slurm"),
    )


def _already_submitted(situation: RunSituation) -> Requeued:
    """Another command was faster."""
    detail = f"another `sedd requeue` has just submitted it, job {situation.job_id}"
    return Requeued(run=situation.run, changed=False, detail=detail)


def _requeue_one(situation: RunSituation, now: dt.datetime, check: Check | None) -> Requeued:
    run = situation.run
    if situation.status is RunStatus.WAITING:
        return _hurry(situation)
    if situation.status is RunStatus.PAUSED:
        return Requeued(run=run, changed=False, detail="waits at a rung for the other points of its sweep")
    if situation.status is RunStatus.STOPPED:
        raise RunError(
            f"run {run.id} was stopped by rule: others of its halving sweep were better",
            hint="a spec with the same values and without halving trains it to its end",
        )
    has_ended = situation.last == "gave_up" and situation.executor == "local"
    is_running = situation.status is RunStatus.RUNNING and not has_ended
    if is_running and not (situation.executor == "local" and _is_orphaned(run)):
        return move_on(situation, now)
    if check is not None:
        check(run)
    if has_ended:
        # Its job entry has decided, and is about to exit.
        end_all(run, grace_s=_EXIT_GRACE_S)
    elif is_running:
        ask_to_stop(run, Role.TRAINING)
        end_all(run, grace_s=GRACE_S)
    follows = describe_start(run)
    revive(situation)
    return Requeued(run=run, changed=True, detail=f"submitted again; {follows}")


def describe_start(run: RunDir) -> str:
    """`continues from …` or `starts over: …`: where the next attempt begins.

    By the run's events, and the parts that lie in its folder.
    """
    events, task = read_events(run.events), load_resolved(run.spec).task
    if task == "train":
        has_saved = any(event.event == "checkpoint" for event in events)
        return "continues from its newest checkpoint" if has_saved else "starts over: nothing was saved yet"
    kept, beat = saved_step(parse_attempts(events)), read_heartbeat(run.heartbeat)
    if not kept and not _has_parts(run):
        return "starts over: nothing was saved yet"
    amount = f": {kept:,} {beat.unit}" if kept and beat is not None else ""
    return f"continues behind what it has kept{amount}"


def _has_parts(run: RunDir) -> bool:
    """Whether parts of the work are there, besides those in which ranks agree on a network and a batch."""
    notes = re.compile(r"part-[^-]*-(network|batch)-")
    return any(not notes.match(path.name) for path in run.parts.glob("part-*"))


def _hurry(situation: RunSituation) -> Requeued:
    """Waive SLURM's pause of two minutes after a requeue, or release what a failed launch left held."""
    job, run = situation.job, situation.run
    assert job is not None
    assert job.fact is not None, "SLURM has the job in the queue"
    if is_held_after_launch(job.fact):
        release(job)
        detail = f"was held after a failed launch; waits for nodes, job {situation.job_id}"
        return Requeued(run=run, changed=True, detail=detail)
    if not pauses_after_requeue(job.fact):
        return Requeued(run=run, changed=False, detail=f"waits in the queue already, job {situation.job_id}")
    update_job(job, start_soon=True)
    detail = f"pauses no longer after its requeue; waits for nodes, job {situation.job_id}"
    return Requeued(run=run, changed=True, detail=detail)


def move_on(situation: RunSituation, now: dt.datetime) -> Requeued:
    """Make a running run save and start again, elsewhere if SLURM likes.

    Raises:
        RunError: it is ending. ClusterError: SLURM does not answer.
    """
    run = situation.run
    if situation.cancelled:
        raise RunError(f"run {run.id} is cancelled and still ending", hint="repeat this in a minute")
    if situation.job is not None and situation.job.fact and situation.job.fact.state is JobState.COMPLETING:
        raise RunError(
            f"SLURM is ending job {situation.job_id} of run {run.id} just now", hint="repeat this in a minute"
        )
    if situation.executor == "local" and not _has(run, Role.TRAINING):
        return Requeued(run=run, changed=False, detail="is about to start by itself")
    append_event(run.events, "stop_requested", attempt=situation.attempt, now=now, by=MOVED_BY)
    if situation.executor == "local":
        ask_to_stop(run, Role.TRAINING)
        return Requeued(run=run, changed=True, detail="saves, then starts again")
    assert situation.job is not None, "a job that runs is known to SLURM"
    # Not `scontrol requeue`: that would kill it before its checkpoint is written. It requeues itself.
    scancel([situation.job], signal="USR2")
    return Requeued(run=run, changed=True, detail="saves, then goes back to the queue")


def _is_orphaned(run: RunDir) -> bool:
    """Whether training goes on without the job entry that would start it again."""
    return not _has(run, Role.ENTRY) and not _has(run, Role.CONTROLLER)


def _has(run: RunDir, role: Role) -> bool:
    return any(member.role is role for member in find_members(run))
