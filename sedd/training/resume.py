"""Make a checkpoint describe itself, and resume a run from one."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sedd.conditions.known import describe_known, known_fields
from sedd.data.mixture import joint_hash
from sedd.data.store import TokenStore
from sedd.errors import DataError
from sedd.rundir.events import note_event
from sedd.rundir.heartbeat import read_heartbeat
from sedd.rundir.layout import RunDir
from sedd.spec.experiment import Experiment
from sedd.spec.load import dump_resolved
from sedd.training.checkpoint_file import FORMAT, checkpoint_path, newest_whole, read_checkpoint, step_of
from sedd.training.distributed import Group
from sedd.training.metrics import last_logged_step
from sedd.training.train_state import TrainState

_NOTHING = -1


@dataclass(frozen=True, slots=True)
class Resumed:
    """Where an attempt goes on."""

    step: int
    parent: dict[str, Any] | None
    """What the checkpoint says of the network that the run started from; None without one."""


def describe(
    run: RunDir, experiment: Experiment, stores: list[TokenStore], parent: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The part of a checkpoint that makes it self-describing: a checkpoint alone is enough to evaluate and sample.

    Lengths are those of the first store, the composition is that of all. `parent` describes the network that the run
    started from.
    """
    store = stores[0]
    compositions = [each.manifest.splits["train"].composition for each in stores]
    quantiles = store.split("train").length_quantiles(
        np.linspace(0, 1, 1001), max_length=experiment.data.max_length
    )
    conditions = known_fields(experiment.model.conditions, stores)
    return {
        **({"conditions": describe_known(conditions)} if conditions else {}),
        "format": FORMAT,
        "run": f"{run.name}/{run.id}",
        "spec": dump_resolved(experiment),
        "data_hash": joint_hash(stores),
        "length_quantiles": [int(q) for q in quantiles],
        "composition": [sum(counts) for counts in zip(*compositions, strict=True)],
    } | ({"parent": parent} if parent else {})


def last_reached(run: RunDir) -> int:
    """The step at which the attempts before were last seen: by their rows, or by a heartbeat since."""
    beat = read_heartbeat(run.heartbeat)
    return max(last_logged_step(run.metrics), beat.step if beat else 0)


def resume(
    run: RunDir,
    state: TrainState,
    stores: list[TokenStore],
    group: Group,
    *,
    attempt: int,
    reached: int,
    notify: Callable[[str], None],
) -> Resumed | None:
    """Load the newest whole checkpoint into `state`; None for a fresh start.

    `reached` is the step at which attempts before were last seen. `notify` hears of newer checkpoints that are damaged.

    Raises:
        DataError: the store is not the one that the run began with.
    """
    newest = newest_whole(run.checkpoints, notify=notify) if group.ranks.is_first else None
    step = group.first_says(step_of(newest) if newest else _NOTHING)
    repeats = max(0, reached - max(step, 0))
    if step == _NOTHING:
        if repeats:
            note_event(run.events, "resumed", attempt=attempt, step=0, repeats=repeats)
        return None
    path = checkpoint_path(run.checkpoints, step)
    saved = read_checkpoint(path)
    if saved["data_hash"] != joint_hash(stores):
        changed = " or ".join(str(store.path) for store in stores)
        raise DataError(
            f"the store {changed} changed: its content is {joint_hash(stores)[:12]}, "
            f"the run began with {saved['data_hash'][:12]}",
            hint="put the old store back, or submit a new run",
        )
    state.load_state_dict(saved)
    if group.ranks.is_first:
        note_event(run.events, "resumed", attempt=attempt, step=step, checkpoint=path.name, repeats=repeats)
    return Resumed(step, saved.get("parent"))
