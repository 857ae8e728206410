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
from sedd.rundir.layout import RunDir, step_of
from sedd.spec.experiment import Experiment
from sedd.spec.load import dump_resolved
from sedd.training.checkpoint_file import (
    FORMAT,
    checkpoint_path,
    newest_whole,
    open_checkpoint,
    parse_checkpoint,
)
from sedd.training.distributed import Group
from sedd.training.local_copies import AT_ONCE, LocalCopies, LocalCopy
from sedd.training.metrics import last_logged_step
from sedd.training.sharding.part_files import own_rows
from sedd.training.train_state import TrainState

_NOTHING = -1


@dataclass(frozen=True, slots=True)
class Resumed:
    """Where an attempt goes on."""

    step: int
    parent: dict[str, Any] | None
    """What the checkpoint says of the network that the run started from; None without one."""
    is_local: bool = False
    """From a copy on the node, later than the newest checkpoint."""


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
    local: LocalCopies | None,
    notify: Callable[[str], None],
) -> Resumed | None:
    """Load the newest whole checkpoint, or the copy of a later step, into `state`; None for a fresh start.

    `reached` is the step at which attempts before were last seen. `notify` hears of newer ones that are not used.

    Raises:
        DataError: the store is not the one that the run began with.
    """
    found = _newest(run, group, local, notify, is_spread=state.shards is not None)
    step = found.step if found else _NOTHING
    repeats = max(0, reached - max(step, 0))
    if found is None:
        if repeats:
            note_event(run.events, "resumed", attempt=attempt, step=0, repeats=repeats)
        return None
    saved = found.state
    if saved["data_hash"] != joint_hash(stores):
        changed = " or ".join(str(store.path) for store in stores)
        raise DataError(
            f"the store {changed} changed: its content is {joint_hash(stores)[:12]}, "
            f"the run began with {saved['data_hash'][:12]}",
            hint="put the old store back, or submit a new run",
        )
    state.load_state_dict(saved)
    if group.ranks.is_first:
        name = checkpoint_path(run.checkpoints, step).name
        tier = {"tier": "node"} if found.is_local else {}
        note_event(
            run.events, "resumed", attempt=attempt, step=step, checkpoint=name, repeats=repeats, **tier
        )
    return Resumed(step, saved.get("parent"), found.is_local)


@dataclass(frozen=True, slots=True)
class _Found:
    """A state to continue from, the same on all ranks."""

    step: int
    state: dict[str, Any]
    is_local: bool


def _newest(
    run: RunDir,
    group: Group,
    local: LocalCopies | None,
    notify: Callable[[str], None],
    *,
    is_spread: bool,
) -> _Found | None:
    """The newest of both tiers: rank 0 decides; it sends the others what only its node has.

    `is_spread`: each rank takes its rows alone, and looks at no more checksums than its own after rank 0 at all.
    """
    newest = newest_whole(run.checkpoints, notify=notify) if group.ranks.is_first else None
    shared = group.first_says(step_of(newest) if newest else _NOTHING)
    copies = local.find(after=shared, notify=notify) if local else []
    if local and is_spread:
        copies = _of_all_ranks(copies, group, notify)
    copy = copies[0] if copies else None
    if local:
        local.remove_all_but(copy)
    step = group.first_says(copy.step if copy else shared)
    if step == _NOTHING:
        return None
    if not group.first_says(int(copy is not None)):
        path = checkpoint_path(run.checkpoints, step)
        return _Found(step, open_checkpoint(path, part=group.ranks.rank if is_spread else None), False)
    if copy and is_spread:
        return _Found(step, own_rows(copy.state), True)
    content = group.first_sends(copy.path.read_bytes() if copy else None)
    return _Found(step, parse_checkpoint(content), True)


def _of_all_ranks(own: list[LocalCopy], group: Group, notify: Callable[[str], None]) -> list[LocalCopy]:
    """Of this rank's copies of its part those of steps of which every rank has one."""
    steps = [copy.step for copy in own]
    found = [set(each) for each in group.gather([*steps, *[_NOTHING] * (AT_ONCE - len(steps))])]
    common = set.intersection(*found) - {_NOTHING}
    if not common and set.union(*found) != {_NOTHING}:
        notify("the copies on the nodes are not used: of no step every rank has a whole one")
    return [copy for copy in own if copy.step in common]
