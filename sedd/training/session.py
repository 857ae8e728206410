"""All that the training loop works with, built and resumed, ready for the next step."""

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import torch

from sedd.data.store import TokenStore
from sedd.rundir.heartbeat_writer import HeartbeatWriter
from sedd.rundir.layout import RunDir
from sedd.rundir.rank_progress import ProgressWriter
from sedd.spec.experiment import Experiment
from sedd.training.async_saver import Saver
from sedd.training.checkpoint_file import remove_leftovers
from sedd.training.distributed import Group, Ranks
from sedd.training.fine_tuning import begin_from_parent, parent_validation
from sedd.training.loader import DeviceBatch, training_feed, validation_set
from sedd.training.local_copies import LocalCopies, NodePlace, open_local_copies
from sedd.training.metrics import RunLogs
from sedd.training.network import build_network
from sedd.training.pause import Rungs
from sedd.training.precision import capability_of, choose_precision
from sedd.training.reporting import Reporter, warm_up_steps
from sedd.training.resume import describe, resume
from sedd.training.sharding.shards import find_shards
from sedd.training.sharding.writer import ShardWriter
from sedd.training.step_clock import StepClock
from sedd.training.stragglers import SpeedReport
from sedd.training.tracking import start_tracker
from sedd.training.train_state import TrainState, fresh_state
from sedd.training.update import Update
from sedd.training.validation import Validation, cut_into_blocks

Notify = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """All that the loop works with."""

    run: RunDir
    attempt: int
    experiment: Experiment
    group: Group
    description: dict[str, Any]
    state: TrainState
    batches: Iterator[list[DeviceBatch]]
    update: Update
    validation: Validation
    forgetting: Validation | None
    """On the validation set of the network that the run started from."""
    is_new: bool
    """It has no checkpoint, and starts from another run's network."""
    rungs: Rungs | None
    reporter: Reporter
    progress: ProgressWriter
    clock: StepClock
    speed: SpeedReport
    saver: Saver

    @property
    def saves(self) -> bool:
        """Whether this rank writes checkpoints, or its part of them."""
        return self.group.ranks.is_first or self.state.shards is not None


def open_session(
    run: RunDir,
    experiment: Experiment,
    stores: list[TokenStore],
    group: Group,
    device: torch.device,
    *,
    attempt: int,
    reached: int,
    place: NodePlace | None,
    beat: HeartbeatWriter,
    progress: ProgressWriter,
    rungs: Rungs | None,
    notify: Notify,
    stack: ExitStack,
) -> Session:
    """Build everything, resume, and be ready for the next step."""
    spec, ranks = experiment.training, group.ranks
    precision = choose_precision(spec.precision, capability_of(device))
    network = build_network(experiment, ranks, precision, device)
    shards = find_shards(network.model, spec, ranks)
    state = fresh_state(network.model, spec, precision, shards=shards)
    if ranks.is_first:
        remove_leftovers(run.checkpoints)
    local = open_local_copies(run, experiment, place, ranks, is_spread=shards is not None)
    resumed = resume(run, state, stores, group, attempt=attempt, reached=reached, local=local, notify=notify)
    progress.phase("starting")
    step, parent = (resumed.step, resumed.parent) if resumed else (0, None)
    if is_new := resumed is None and spec.init is not None:
        parent = begin_from_parent(run, experiment, state, stores, group, notify=notify)
    processes = "1 process" if ranks.size == 1 else f"{ranks.size} processes"
    how = f"{precision.name} on {device}, {processes}, {network.means()}, {spec.optimizer} optimizer"
    where = " from the copy on this node" if resumed and resumed.is_local else ""
    notify(f"{how}; {'resumed at' if step else 'starting at'} step {step}{where}")
    saver, reporter = _open_writers(
        run, experiment, ranks, device,
        attempt=attempt, resumed_step=step if resumed else -1, local=local, is_sharded=shards is not None,
        beat=beat, progress=progress, notify=notify, stack=stack,
    )  # fmt: skip
    fixed_set = validation_set(experiment, stores, device)
    clock, host = StepClock(device), os.environ.get("SEDD_HOST") or socket.gethostname()
    return Session(
        run=run,
        attempt=attempt,
        experiment=experiment,
        group=group,
        description=describe(run, experiment, stores, parent),
        state=state,
        batches=stack.enter_context(closing(training_feed(experiment, stores, ranks, device, step + 1))),
        update=Update(experiment, network, ranks, on_computed=clock.computed),
        validation=Validation(network, fixed_set, cut_into_blocks(fixed_set), experiment.seed, group),
        forgetting=parent_validation(network, parent, spec.init, device, group, notify=notify),
        is_new=is_new,
        rungs=rungs,
        reporter=reporter,
        progress=progress,
        clock=clock,
        speed=SpeedReport(run, clock, group, beat, attempt=attempt, host=host),
        saver=saver,
    )


def _open_writers(
    run: RunDir,
    experiment: Experiment,
    ranks: Ranks,
    device: torch.device,
    *,
    attempt: int,
    resumed_step: int,
    local: LocalCopies | None,
    is_sharded: bool,
    beat: HeartbeatWriter,
    progress: ProgressWriter,
    notify: Notify,
    stack: ExitStack,
) -> tuple[Saver, Reporter]:
    """What writes checkpoints, and what writes all else that is known of the run; `stack` closes them."""
    spec = experiment.training
    logs = RunLogs(run, resumed_step=resumed_step) if ranks.is_first else None
    stack.callback(logs.close if logs else _do_nothing)
    saver = Saver(
        run,
        spec.checkpoint,
        attempt=attempt,
        make_rows_durable=logs.make_durable if logs else _do_nothing,
        notify=notify,
        local=local,
        hand_rows_over=logs.hand_over if logs else list,
        writer=ShardWriter(ranks) if is_sharded else None,
        is_first=ranks.is_first,
    )
    stack.callback(saver.close)
    tracker = start_tracker(run, experiment, is_first=ranks.is_first, notify=notify)
    stack.callback(tracker.finish)
    reporter = Reporter(
        spec,
        logs=logs,
        tracker=tracker,
        heartbeat=beat,
        saver=saver,
        progress=progress,
        warm_up=warm_up_steps(spec, is_on_gpu=device.type == "cuda"),
        notify=notify,
    )
    return saver, reporter


def _do_nothing() -> None:
    pass
