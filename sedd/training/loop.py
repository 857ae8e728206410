"""Train one attempt: from resuming to the last step or the first stop signal."""

import contextlib
import shutil
import time
from contextlib import ExitStack
from enum import StrEnum
from typing import NamedTuple

import torch

from sedd.errors import RunError
from sedd.rundir.events import note_event
from sedd.rundir.layout import RunDir
from sedd.rundir.rank_progress import ProgressWriter
from sedd.spec.experiment import Experiment
from sedd.spec.load import load_resolved_as
from sedd.training.async_saver import FIRST, STOP_PATIENCE_S
from sedd.training.cadence import Tier
from sedd.training.distributed import Ranks, connected
from sedd.training.gpu_use import write_gpu_heartbeats
from sedd.training.local_copies import NodePlace
from sedd.training.memory import keep_freed_memory
from sedd.training.pause import Rungs
from sedd.training.reporting import metric_row, start_row
from sedd.training.resume import last_reached
from sedd.training.schedule import learning_rate
from sedd.training.session import Notify, Session, open_session
from sedd.training.stop import StopFlag
from sedd.training.stores import open_stores
from sedd.training.validation import Validated


class Outcome(StrEnum):
    """How an attempt ended that ended well."""

    COMPLETED = "completed"
    STOPPED = "stopped"
    """A signal asked for it; the state is saved."""
    PAUSED = "paused"
    """It may not pass a rung yet; the state is saved."""


_PATIENCE_S = {FIRST: 300.0, "last": 300.0, "rung": 300.0, "stop": STOP_PATIENCE_S}
"""With a full disk: the other ranks wait meanwhile."""


class NotFiniteError(RunError):
    """The loss or its gradient was not finite for more steps in a row than the spec allows."""


def train(
    run: RunDir,
    *,
    attempt: int,
    ranks: Ranks,
    stop: StopFlag,
    wandb: str | None = None,
    stage: str | None = None,
    place: NodePlace | None = None,
    progress: ProgressWriter | None = None,
    rungs: Rungs | None = None,
    notify: Notify = print,
) -> Outcome:
    """Train a run folder's spec from its newest whole checkpoint to its last step, or until `stop` is set.

    Every rank calls it; rank 0 writes. `wandb` and `stage` (the node's folder for copies of stores) are this
    site's, where it has its own. `place` is where copies of the state lie on the node, and `progress` where this rank
    reports to its job entry, if it has one. At `rungs` it saves, and ends early where it may not pass.

    Raises:
        SeddError: the spec, the data or the folder cannot be used.
        NotFiniteError: training diverged.
    """
    experiment = _at_this_site(load_resolved_as(Experiment, run.spec), wandb)
    stage, progress = experiment.data.stage or stage, progress or ProgressWriter(None)
    device = ranks.device()
    if device.type == "cpu":
        torch.set_num_threads(experiment.resources.cpus_per_process)
        keep_freed_memory()
    gpu = torch.cuda.get_device_name(device) if device.type == "cuda" else None
    beat_path = run.heartbeat if ranks.is_first else None
    reached = last_reached(run) if ranks.is_first else 0  # before this attempt's first beat
    with (
        connected(ranks, device) as group,
        write_gpu_heartbeats(beat_path, attempt=attempt, steps=experiment.training.steps, gpu=gpu) as beat,
        ExitStack() as stack,
    ):
        progress.phase("starting")  # all ranks have met
        notify = notify if ranks.is_first else _ignore
        with progress.within("staging" if stage else "starting"):
            stores = open_stores(experiment.data, stage, run=run, attempt=attempt, ranks=ranks)
        session = open_session(
            run,
            experiment,
            stores,
            group,
            device,
            attempt=attempt,
            reached=reached,
            place=place,
            beat=beat,
            progress=progress,
            rungs=rungs,
            notify=notify,
            stack=stack,
        )
        outcome = _loop(session, stop)
        session.reporter.phase("done" if outcome is Outcome.COMPLETED else "stopping")
    return outcome


def _loop(s: Session, stop: StopFlag) -> Outcome:
    """Step, watch, save: until the last step, or until any rank was asked to stop."""
    spec = s.experiment.training
    if s.update.network.regroups:
        _rehearse(s)
    if s.is_new:
        _save_start(s, stop)
    if not _passes_rung(s, s.state.step):  # an attempt before came to it, and was ended there
        return Outcome.PAUSED
    s.reporter.begin(s.state.step)
    first = s.state.step + 1
    for batches in s.clock.feed(s.batches):
        if _is_asked_to_stop(s, stop):
            return _stop(s, stop)
        s.clock.begin()
        norm = s.update(s.state, batches)
        step, last = s.state.step, s.state.step == spec.steps
        s.speed.step(step)
        s.reporter.step(step)
        if step == first and not last:
            _prepare_to_save(s)
        validates, logs = step % spec.validation.every_steps == 0, step % spec.log_every_steps == 0
        found = _validate(s) if last or validates else None
        if last or validates or logs:
            _log(s, norm, found, is_extra=not (validates or logs))
        if not last and _is_rung(s, step):
            _save_last(s, stop, reason="rung")
            if not _passes_rung(s, step):
                return Outcome.PAUSED
        elif not last and (tier := _due(s)):
            _save(s, tier)
    _save_last(s, stop, reason="last")
    return Outcome.COMPLETED


def _is_asked_to_stop(s: Session, stop: StopFlag) -> bool:
    """Whether any rank is; here the others wait while rank 0 still saves or reports the step before."""
    with contextlib.nullcontext() if s.group.ranks.is_first else s.progress.within("meeting"):
        return s.group.any(bool(stop))


def _is_rung(s: Session, step: int) -> bool:
    return s.rungs is not None and step in s.rungs.steps


def _passes_rung(s: Session, step: int) -> bool:
    """Whether training goes on after this step: rank 0 asks, and tells the others."""
    if s.rungs is None or not _is_rung(s, step):
        return True
    return bool(s.group.first_says(int(s.group.ranks.is_first and s.rungs.lets_pass(step))))


def _due(s: Session) -> Tier:
    """Which periodic save follows: rank 0 decides, and others need to know only what they take part in."""
    due = s.saver.due(s.state.step)
    return Tier(s.group.first_says(due)) if s.state.shards else due


def _rehearse(s: Session) -> None:
    """One gradient that is thrown away.

    DDP regroups what it exchanges after its first backward pass; done here, a resumed run groups its first real step
    as an uninterrupted one does, and rounds alike.
    """
    s.update.accumulate_gradient(s.state, s.validation.batches[:1], step=0)
    s.state.drop_gradients()


def _prepare_to_save(s: Session) -> None:
    """After the first step, when the moments exist too."""
    if s.saves:
        s.saver.prepare(s.description | s.state.state_dict())


def _stop(s: Session, stop: StopFlag) -> Outcome:
    """Save where we are: the next attempt loses nothing."""
    s.reporter.phase("checkpointing")
    if s.group.ranks.is_first:
        name = stop.signal.name if stop.signal else "another rank's"
        note_event(s.run.events, "stop_requested", attempt=s.attempt, step=s.state.step, signal=name)
    _save_last(s, stop, reason="stop")
    return Outcome.STOPPED


def _save_start(s: Session, stop: StopFlag) -> None:
    """Validate and save before the first step: the network that was started from may then be deleted."""
    found = _validate(s)
    if s.group.ranks.is_first:
        s.reporter.start_row(
            start_row(found.own.nats_per_residue, found.parents), s.validation.row(0, found.own)
        )
    _save_last(s, stop, reason=FIRST)
    if s.group.ranks.is_first:
        shutil.rmtree(s.run.initial, ignore_errors=True)


class _Found(NamedTuple):
    """What was validated: on the own set, and on that of the network that was started from, in nats per residue."""

    own: Validated
    parents: float | None


def _validate(s: Session) -> _Found:
    def on_batch() -> None:
        s.reporter.phase("validating")

    with s.progress.within("validating"):
        on_batch()
        own = s.validation(s.state, on_batch)
        return _Found(own, s.forgetting(s.state, on_batch).nats_per_residue if s.forgetting else None)


def _log(s: Session, norm: torch.Tensor, found: _Found | None, *, is_extra: bool) -> None:
    """Make a row of the losses since the last one; the only wait on the GPU between two of them.

    `is_extra`: a run of more steps would have no row here. The next row, should the run be extended, is that of one.

    Raises:
        NotFiniteError: too many bad steps in a row.
    """
    state, spec = s.state, s.experiment.training
    row = metric_row(
        state.step,
        loss=float(state.loss_sum) / state.loss_steps,
        grad_norm=float(norm),
        learning_rate=learning_rate(state.step, spec),
        residues=state.step * spec.residues_per_step,
        bound=found.own.nats_per_residue if found else None,
        parent_bound=found.parents if found else None,
    )
    if not is_extra:
        state.loss_sum.zero_()
        state.loss_steps = 0
    if s.group.ranks.is_first:
        s.reporter.row(row, s.validation.row(state.step, found.own) if found else None)
    if int(state.bad_steps) > spec.max_bad_steps:
        raise NotFiniteError(
            f"loss or gradient not finite for {int(state.bad_steps)} steps in a row up to step {state.step}; "
            "try a lower training.learning_rate"
        )


def _save(s: Session, tier: Tier) -> None:
    """Write a checkpoint, rank 0 or each rank its part, or rank 0 a copy to its node, while training goes on."""
    began = time.monotonic()
    if not s.saves:
        return
    state = s.description | s.state.state_dict()
    with s.progress.within("checkpointing"):
        if tier is Tier.SHARED:
            s.saver.save_in_background(s.state.step, state)
        else:
            s.saver.copy_to_node(s.state.step, state, began=began)


def _save_last(s: Session, stop: StopFlag, *, reason: str) -> None:
    """Write the first or the last checkpoint of the attempt; all ranks wait until it is whole."""
    s.progress.phase("checkpointing")
    if s.saves:
        s.saver.save_now(
            s.state.step,
            s.description | s.state.state_dict(),
            reason=reason,
            patience_s=_PATIENCE_S[reason],
            is_asked_to_stop=lambda: bool(stop),
            pause=lambda seconds, why: _wait_for_disk(s, seconds, why),
        )
    with s.progress.within("meeting"):
        s.group.barrier()


def _wait_for_disk(s: Session, seconds: float, why: str) -> None:
    s.reporter.phase("waiting", why=why)
    time.sleep(seconds)
    s.progress.phase("checkpointing")


def _at_this_site(experiment: Experiment, wandb: str | None) -> Experiment:
    return experiment.model_copy(update={"tracking": experiment.tracking.at_site(wandb)})


def _ignore(text: str) -> None:
    pass
