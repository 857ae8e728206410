"""`sedd requeue --gpus … --nodes …`: the next attempt of a run has another shape.

A job keeps the tasks that it was submitted with, also when SLURM requeues it. So the run saves and goes back to the
queue in its old shape, its waiting job is cancelled, and another is submitted. If the command is killed on
the way, the run continues in its old or its new shape, or `sedd requeue` continues it.
"""

import datetime as dt
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sedd.amend.spec_change import Changes, SpecChange, plan_change, restore, write_change
from sedd.cluster.control import cancel_waiting
from sedd.cluster.identity import ProvenJob
from sedd.cluster.profile import Profile, SlurmProfile
from sedd.cluster.sbatch import SubmissionRefusedError
from sedd.cluster.scontrol import query_job
from sedd.cluster.users import user_name
from sedd.errors import ClusterError, RunError, SeddError, SpecError, UsageError
from sedd.launch.cancel import end_local
from sedd.launch.liveness import RunSituation, RunStatus, query_run_status
from sedd.launch.requeue import Requeued, completed_error, describe_start, move_on, revive
from sedd.launch.resources import local_parameters
from sedd.launch.submit_local import cards_of_sweep, with_cards
from sedd.launch.unsubmitted import confirm_all, has_no_job
from sedd.rundir.attempts import LAST_WORDS, MOVED_BY
from sedd.rundir.events import append_event, read_events
from sedd.rundir.find import typed_name
from sedd.rundir.layout import RunDir, sealed_steps
from sedd.rundir.lock import one_action
from sedd.spec.experiment import Experiment
from sedd.spec.inference import TrainedTask
from sedd.spec.load import load_resolved
from sedd.spec.task import TaskSpec
from sedd.units import format_duration

SAVE_PATIENCE_S = 1200.0
"""For a running attempt to save and to end: longer than its job entry waits for it."""
HEAR_PATIENCE_S = 60.0
"""For a training to take notice that it is asked to stop: at the end of its step. Then it is asked again."""
QUEUE_PATIENCE_S = 180.0
"""For SLURM to have a requeued job in the queue again: KillWait and more."""
_LOOK_S, _ASK_S = 1.0, 3.0

Check = Callable[[SpecChange], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What a user asks for; None: as it was."""

    nodes: int | None = None
    gpus: int | None = None
    """GPUs of all nodes together."""
    processes: int | None = None
    """Processes of all nodes together; for jobs without GPUs, or with another number of them."""
    walltime: str | None = None
    partition: str | None = None

    def __str__(self) -> str:
        """The options, as they were typed."""
        return " ".join(filter(None, (self.processes_text, self._text("walltime", "partition"))))

    @property
    def processes_text(self) -> str:
        """Those of the options, as they were typed, that change the number of processes or what each has."""
        return self._text("gpus", "nodes", "processes")

    def _text(self, *names: str) -> str:
        given = {name: value for name in names if (value := getattr(self, name)) is not None}
        return " ".join(f"--{name} {value}" for name, value in given.items())

    @property
    def is_given(self) -> bool:
        return bool(str(self))


def reshape(run: RunDir, shape: Shape, *, check: Check, now: dt.datetime) -> Requeued:
    """Let a run go on in another shape, from what it has saved.

    Raises:
        UsageError: its task is one process's work. RunError, SpecError: it cannot have that shape. Then nothing is
            changed. ClusterError: SLURM refuses it, or does not answer.
    """
    _require_shared(run, shape)
    confirm_all([run])
    with one_action(run):
        situation = _require_begun(run)
        had_job = situation.status is not RunStatus.OVER
        change = plan_shape(situation, shape)
        check(change)
        situation = _withdrawn(situation, now)
        begins = f"continues from step {saved[0]}" if (saved := sealed_steps(run)) else describe_start(run)
        try:
            write_change(change)
            _note(change)
        except SeddError as e:
            e.hint = (
                f"run {run.id} has saved and has no job now: repeat this, or sedd requeue {typed_name(run)}"
            )
            raise
        try:
            revive(situation)
        except SeddError as e:
            if isinstance(e, SubmissionRefusedError) or situation.executor != "slurm":
                raise _go_on_as_before(situation, change, e, had_job=had_job) from e
            raise  # there may be a job now: repeated, the command finds out
    detail = f"{describe(change.experiment, change.profile)}; submitted, {begins}"
    return Requeued(run=run, changed=True, detail=detail)


def plan_shape(situation: RunSituation, shape: Shape) -> SpecChange:
    """What `reshape` would change. Raises: RunError, SpecError as `reshape`."""
    run, experiment = situation.run, load_resolved(situation.run.spec)
    profile = {"partition": shape.partition} if shape.partition else {}
    if shape.partition and situation.executor != "slurm":
        raise SpecError(f"--partition {shape.partition}: run {run.id} is a local one, without partitions")
    if shape.nodes and shape.nodes > 1 and situation.executor != "slurm":
        raise SpecError(f"--nodes {shape.nodes}: run {run.id} is a local one, on one machine")
    change = plan_change(run, _changes(experiment, shape), origin=str(shape), profile=profile)
    if situation.executor != "slurm":
        # Refuses what this machine, or the run's sweep, does not have.
        local_parameters(change.experiment, with_cards(os.environ, cards_of_sweep(run)))
    return change


def _require_shared(run: RunDir, shape: Shape) -> None:
    """Raise UsageError where processes are to be others, and the task is not shared by several."""
    experiment = load_resolved(run.spec)
    if shape.processes_text and not isinstance(experiment, Experiment | TrainedTask):
        raise UsageError(
            f"{shape.processes_text}: run {run.id} has task: {experiment.task}, the work of one process",
            hint="it takes --walltime and --partition",
        )


def describe(experiment: TaskSpec, profile: Profile) -> str:
    """`2 nodes x 4 GPUs, 8 processes, 24h, partition gpu`."""
    resources = experiment.resources
    nodes = f"{_count(resources.nodes, 'node')} x {_count(resources.gpus_per_node, 'GPU')}"
    partition = profile.partition if isinstance(profile, SlurmProfile) else None
    where = f", partition {partition}" if partition else ""
    ranks = f"{resources.ranks} process{'es' if resources.ranks > 1 else ''}"
    return f"{nodes}, {ranks}, {format_duration(resources.walltime)}{where}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _changes(experiment: TaskSpec, shape: Shape) -> Changes:
    """Raises: SpecError where a number does not divide among the nodes."""
    before, changes = experiment.resources, dict[tuple[str, ...], Any]()
    nodes = shape.nodes or before.nodes
    if shape.nodes:
        changes["resources", "nodes"] = nodes
    if shape.gpus is not None:
        changes["resources", "gpus_per_node"] = _each("--gpus", shape.gpus, nodes)
        if before.processes_per_node == before.gpus_per_node:
            changes["resources", "processes_per_node"] = None  # as many as there are
    if shape.processes is not None:
        changes["resources", "processes_per_node"] = _each("--processes", shape.processes, nodes)
    if shape.walltime is not None:
        changes["resources", "walltime"] = shape.walltime
    return changes


def _each(option: str, count: int, nodes: int) -> int:
    if count % nodes:
        raise SpecError(
            f"{option} {count} cannot be shared equally by {nodes} nodes",
            hint=f"{option} counts those of all nodes; --nodes N says how many these are",
        )
    return count // nodes


def _require_begun(run: RunDir) -> RunSituation:
    if has_no_job(run):
        raise RunError(
            f"run {run.id} is not submitted yet", hint=f"sedd requeue {typed_name(run)} submits it"
        )
    situation = query_run_status(run)
    if situation.status is RunStatus.COMPLETED:
        raise completed_error(run)
    if situation.status in (RunStatus.PAUSED, RunStatus.STOPPED):
        what = "waits at a rung" if situation.status is RunStatus.PAUSED else "was stopped by rule"
        raise RunError(f"run {run.id} {what}: it has no job that could have another shape")
    return situation


def _withdrawn(situation: RunSituation, now: dt.datetime) -> RunSituation:
    """The run with nothing of it alive or in the queue, saved as far as it had come."""
    run = situation.run
    if situation.executor != "slurm":
        if situation.status is RunStatus.RUNNING:
            end_local(situation, by=MOVED_BY, now=now)
        return _require_not_completed(query_run_status(run))
    deadline = time.monotonic() + SAVE_PATIENCE_S
    while situation.status in (RunStatus.RUNNING, RunStatus.WAITING):
        if time.monotonic() > deadline:
            raise RunError(
                f"run {run.id} does not leave its job {situation.job_id}",
                hint="it continues in its old shape; repeat the command",
            )
        assert situation.job is not None, "SLURM has its job"
        if situation.status is RunStatus.RUNNING:
            _back_to_queue(situation, now)
        else:
            cancel_waiting(situation.job)
            time.sleep(_LOOK_S)
        situation = query_run_status(run)
    return _require_not_completed(situation)


def _back_to_queue(situation: RunSituation, now: dt.datetime) -> None:
    """Make a running job save and leave its nodes; returns without that where it does not hear: it has just begun.

    Raises:
        RunError, ClusterError: it is ending, or SLURM does not end it.
    """
    assert situation.job is not None
    known = len(read_events(situation.run.events))
    move_on(situation, now)
    began, new = time.monotonic(), read_events(situation.run.events)[known:]
    while not any(e.event in LAST_WORDS for e in new):
        has_heard = any(e.event == "stop_requested" and e.get("by") != MOVED_BY for e in new)
        if time.monotonic() - began > (SAVE_PATIENCE_S if has_heard else HEAR_PATIENCE_S):
            return
        time.sleep(_LOOK_S)
        new = read_events(situation.run.events)[known:]
    _await_queue(situation.job)


def _await_queue(job: ProvenJob) -> None:
    """Until SLURM has the job in the queue, or has ended it: its last process is gone. Raises: ClusterError."""
    deadline = time.monotonic() + QUEUE_PATIENCE_S
    while time.monotonic() < deadline:
        fact = query_job(job.job_id)
        if fact is None or fact.state.is_final or fact.state.is_waiting:
            return
        time.sleep(_ASK_S)
    raise ClusterError(f"SLURM does not end job {job.job_id}", hint="repeat this in a minute")


def _require_not_completed(situation: RunSituation) -> RunSituation:
    if situation.status is RunStatus.COMPLETED:
        raise RunError(f"run {situation.run.id} has completed meanwhile")
    return situation


def _note(change: SpecChange, *, is_back: bool = False) -> None:
    """Record the change of shape, or that it came to nothing."""
    shapes = describe(change.earlier, change.earlier_profile), describe(change.experiment, change.profile)
    earlier, shape = reversed(shapes) if is_back else shapes
    fields = {"earlier": earlier, "shape": shape, "by": user_name(os.geteuid())}
    events, attempt = change.run.events, max(e.attempt for e in read_events(change.run.events))
    append_event(events, "reshaped", attempt=attempt, now=dt.datetime.now(dt.UTC), **fields)


def _go_on_as_before(
    situation: RunSituation, change: SpecChange, error: SeddError, *, had_job: bool
) -> SeddError:
    """Put the old shape back after SLURM has refused the new one, and the run back into the queue if it was there.

    Returns `error`, with what became of the run.
    """
    restore(change)
    _note(change, is_back=True)
    what = "it is as it was"
    if had_job:
        revive(situation)
        what = "it continues in its old shape"
    return type(error)(
        f"run {change.run.id} cannot have {change.origin}: {error.message}; {what}", hint=error.hint
    )
