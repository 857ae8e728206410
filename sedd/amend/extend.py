"""`sedd extend`: a training that has ended continues, as if more steps had been asked for from the start."""

import datetime as dt
import os
from collections.abc import Callable
from dataclasses import dataclass

from sedd.amend.spec_change import Changes, SpecChange, plan_change, require_training, write_change
from sedd.cluster.users import user_name
from sedd.errors import RunError, SeddError, SpecError, UsageError, reason_of
from sedd.launch.freeze import code_hash
from sedd.launch.liveness import RunSituation, RunStatus, count_submissions, query_run_status
from sedd.launch.requeue import revive
from sedd.launch.unsubmitted import confirm_all, has_no_job
from sedd.rundir.attempts import is_completed
from sedd.rundir.events import append_event, read_events, require_undamaged
from sedd.rundir.find import typed_name
from sedd.rundir.layout import RunDir, Seals, read_manifest, read_seals
from sedd.rundir.lock import one_action
from sedd.spec.experiment import Experiment

KNOWS_EXTENDED = 3
"""First manifest format whose frozen code can continue after `completed` and reads `training.rewarm`."""

Check = Callable[[SpecChange], None]
"""Raises: SeddError where the changed run would not come to its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Extended:
    """What became of one run that was to get more steps."""

    run: RunDir
    changed: bool
    detail: str


def extend(run: RunDir, steps: int, *, rewarm: int | None, check: Check, now: dt.datetime) -> Extended:
    """Let a run that has ended go on to `steps`, in its folder and with its code.

    `rewarm`: steps in which the learning rate of a cosine schedule rises again; other schedules need none.

    Raises:
        UsageError: no more steps than it has, or no training. RunError, SpecError: it cannot be extended now. In any
            case it is as it was. ClusterError: SLURM refuses, or does not answer.
    """
    if has_no_job(run):
        raise RunError(
            f"run {run.id} is not submitted yet: it can be extended when it has ended",
            hint=f"sedd requeue {typed_name(run)} submits it",
        )
    confirm_all([run])
    before = count_submissions(read_events(run.events))
    with one_action(run):
        situation = query_run_status(run)
        if situation.submissions > before:
            detail = f"another command has just submitted it, job {situation.job_id}"
            return Extended(run=run, changed=False, detail=detail)
        change = plan_extension(situation, steps, rewarm=rewarm)
        check(change)
        return _extend(situation, change, now)


def plan_extension(situation: RunSituation, steps: int, *, rewarm: int | None) -> SpecChange:
    """What `extend` would change. Raises: as `extend`."""
    run, experiment = situation.run, require_training(situation.run)
    _require_ended(situation)
    reached = _completed_step(run)
    if reached is None:
        require_undamaged(run.events, unknown="whether the run is completed")
    earlier = experiment.steps if reached is None else reached
    if steps <= earlier:
        again = (
            f"; sedd requeue {typed_name(run)} continues it" if reached is None and steps == earlier else ""
        )
        raise UsageError(
            f"run {run.id} has {earlier} steps already: --steps {steps} adds none{again}",
            hint=f"--steps is the new total: {earlier + steps} adds {steps}",
        )
    _require_checkpoints(run)
    changes: Changes = {("training", "steps"): steps}
    if experiment.steps != steps:  # else the same command was killed when it had written the spec
        changes = {**changes, **_schedule_changes(experiment, rewarm)}
    _require_code(run, knows_extended=reached is not None or rewarm is not None)
    return plan_change(run, changes, origin=f"--steps {steps}")


def _extend(situation: RunSituation, change: SpecChange, now: dt.datetime) -> Extended:
    run, steps = situation.run, change.experiment.steps
    seals, earlier = read_seals(run), _completed_step(run) or require_training(run).steps
    write_change(change)
    fields = {"earlier_steps": earlier, "steps": steps, "by": user_name(os.geteuid())}
    append_event(run.events, "extended", attempt=situation.attempt, now=now, **fields)
    try:
        revive(situation)
    except SeddError as e:
        e.hint = f"run {run.id} has {steps} steps now; sedd requeue {typed_name(run)} submits it"
        raise
    begins = f"continues from step {seals.whole[0]}" if seals.whole else "starts over: nothing was saved yet"
    begins += "".join(f"; that of step {step}: {problem}" for step, problem in _lost(run, seals).items())
    return Extended(
        run=run, changed=True, detail=f"extended from {earlier} to {steps} steps; submitted, {begins}"
    )


def _schedule_changes(experiment: Experiment, rewarm: int | None) -> Changes:
    """The schedule changes that a larger number of steps requires. Raises: SpecError."""
    training = experiment.training
    if training.schedule != "cosine":
        if rewarm is not None:
            raise SpecError(
                f"--rewarm {rewarm}: the schedule {training.schedule} needs none",
                hint="without --rewarm the run continues as if it had been longer from the start",
            )
        return {}
    if rewarm is None:
        raise SpecError(
            f"training.schedule is cosine, which ends at step {training.steps}: a longer one would have differed",
            hint="--rewarm STEPS raises the learning rate to its peak again in STEPS steps; then it falls as before",
        )
    restart = {"from_step": training.steps, "steps": rewarm}
    return {("training", "rewarm"): [each.model_dump() for each in training.rewarm] + [restart]}


def _require_ended(situation: RunSituation) -> None:
    run = situation.run
    if situation.status in (RunStatus.PAUSED, RunStatus.STOPPED):
        what = "waits at a rung" if situation.status is RunStatus.PAUSED else "was stopped by rule"
        raise RunError(
            f"run {run.id} {what}: in a halving sweep only what has completed can be extended",
            hint="a spec with the same values and without halving trains it on",
        )
    if situation.status in (RunStatus.RUNNING, RunStatus.WAITING):
        what = "runs" if situation.status is RunStatus.RUNNING else "waits in the queue"
        raise RunError(
            f"run {run.id} {what}: it can be extended when it has ended",
            hint=f"or end it first: sedd cancel {typed_name(run)}",
        )


def _completed_step(run: RunDir) -> int | None:
    """The step at which a run completed; None if it has not. Raises: RunError if its events do not say which."""
    events = read_events(run.events)
    if not is_completed(events):
        return None
    step = [e for e in events if e.event == "completed"][-1].get("step")
    if not isinstance(step, int) or step < 1:
        raise RunError(f"run {run.id} is completed, and its events do not say at which step")
    return step


def _require_checkpoints(run: RunDir) -> None:
    """Raises: RunError where steps were saved and nothing is left to continue from, or that cannot be known."""
    seals = read_seals(run)
    for path, error in seals.unreadable.items():
        raise RunError(
            f"cannot read {path}: {reason_of(error)}; from which step run {run.id} would continue is not known",
            hint="make it readable for your user, then repeat this",
        )
    if not seals.whole and any(e.event == "checkpoint" for e in read_events(run.events)):
        lost = "".join(f"; that of step {step}: {problem}" for step, problem in _lost(run, seals).items())
        raise RunError(
            f"run {run.id} has no whole checkpoint any more in {run.checkpoints}{lost}",
            hint="put the newest one and its .json back, or submit a new run",
        )


def _lost(run: RunDir, seals: Seals) -> dict[int, str]:
    """What is wrong with the newest checkpoint that was saved, where it is not the newest whole one."""
    saved = [e.get("step") for e in read_events(run.events) if e.event == "checkpoint"]
    newest = max((step for step in saved if isinstance(step, int)), default=0)
    if newest <= (seals.whole[0] if seals.whole else 0):
        return {}
    return {newest: seals.broken.get(newest, "it is gone")}


def _require_code(run: RunDir, *, knows_extended: bool) -> None:
    """Raises: RunError where the run's frozen code is not what it was, or cannot be extended."""
    manifest = read_manifest(run)
    if knows_extended and int(manifest.get("format", 1)) < KNOWS_EXTENDED:
        raise RunError(
            f"run {run.id} keeps the code of an older version, which ends at a run's first `completed`",
            hint="submit a new run",
        )
    if code_hash((run.code / "sedd").resolve()) != manifest.get("code_hash"):
        raise RunError(
            f"the code in {run.code} was changed after submission: the run's jobs would refuse it",
            hint="submit a new run: a run is one version of the code",
        )
