"""Start a run from another network, and watch what it forgets of that one's data."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from sedd.conditions.known import KnownField, known_fields, label_mismatch, parse_known
from sedd.data.mixture import joint_hash
from sedd.data.store import TokenStore
from sedd.errors import CheckpointError, DataError, RunError
from sedd.finetune.fitting import count, require_fit, trained_shapes
from sedd.finetune.parent import (
    Parent,
    description_of,
    find_parent,
    keep,
    kept_in,
    read_parent,
    write_lineage,
)
from sedd.finetune.start import load_parent
from sedd.rundir.layout import RunDir
from sedd.spec.experiment import Experiment
from sedd.spec.finetune import InitSpec
from sedd.training.checkpoint_file import read_checkpoint
from sedd.training.distributed import Group
from sedd.training.loader import validation_set
from sedd.training.network import Network
from sedd.training.train_state import TrainState
from sedd.training.validation import Validation, cut_into_blocks
from sedd.yaml import parse_document, validate

Notify = Callable[[str], None]


def begin_from_parent(
    run: RunDir,
    experiment: Experiment,
    state: TrainState,
    stores: list[TokenStore],
    group: Group,
    *,
    notify: Notify,
) -> dict[str, Any]:
    """Load the network that the spec starts from into `state`; returns what checkpoints keep of it.

    What was kept in the run's folder at its submission is taken; else what the spec names, and that is kept.

    Raises:
        UsageError, CheckpointError: there is no such network, it is damaged, or it does not fit the spec.
    """
    init = experiment.training.init
    assert init is not None
    if group.ranks.is_first and kept_in(run.initial) is None:
        _keep_now(run, init, notify)
    group.barrier()
    path = kept_in(run.initial)
    if path is None:
        raise RunError(f"{run.initial} is empty, where rank 0 has put the network to start from")
    parent = read_parent(path)
    require_fit(parent, experiment)
    _require_same_labels(parent, known_fields(experiment.model.conditions, stores))
    copy = torch.nn.Parameter.copy_ if state.shards is None else state.shards.copy
    saved = load_parent(state.model, parent, init, read=read_checkpoint, copy=copy)
    state.ema.restart()
    if init.optimizer:
        _take_over_moments(state, saved)
    description = description_of(parent, init)
    if group.ranks.is_first:
        write_lineage(run, description)
    trained = count(trained_shapes(experiment))
    notify(f"starting from {parent.run}, step {parent.step}; {trained:,} parameters are trained")
    return description


def _require_same_labels(parent: Parent, fields: Sequence[KnownField]) -> None:
    """A parent's labels mean the same here: its rows and scales belong to them. Raises: CheckpointError."""
    if found := label_mismatch(parse_known(parent.conditions or (), parent.run), fields):
        raise CheckpointError(f"cannot start from {parent.run}: {found[0]}", hint=found[1])


def _take_over_moments(state: TrainState, saved: Mapping[str, Any]) -> None:
    """The parent's moments, with this spec's own decays and rates."""
    own = [
        {key: value for key, value in group.items() if key != "params"}
        for group in state.optimizer.param_groups
    ]
    state.load_optimizer(saved)
    for group, options in zip(state.optimizer.param_groups, own, strict=True):
        group.update(options)


def _keep_now(run: RunDir, init: InitSpec, notify: Notify) -> None:
    found = find_parent(init.network, notify=notify)
    if found is None:
        raise CheckpointError(
            f"{init.network} has no checkpoint to start from yet", hint="train it first: sedd submit --after"
        )
    keep(found, run.initial)


def parent_validation(
    network: Network,
    parent: dict[str, Any] | None,
    init: InitSpec | None,
    device: torch.device,
    group: Group,
    *,
    notify: Notify,
) -> Validation | None:
    """The validation of the parent's own training: its proteins in its batches, with its noise.

    None without a parent; and, with a note, where its store is gone or is another one by now: training continues.
    """
    if parent is None or init is None:
        return None
    theirs = validate(Experiment, parse_document(parent["spec"], name="the parent's spec"))
    store, problem = _parent_store(theirs, parent["data_hash"], init)
    if group.any(store is None):  # all ranks or none: they add up what each has computed
        notify(f"warning: what is forgotten is not measured: {problem or 'another rank lacks the store'}")
        return None
    assert store is not None
    fixed_set = validation_set(theirs, [store], device)
    return Validation(network, fixed_set, cut_into_blocks(fixed_set), theirs.seed, group)


def _parent_store(theirs: Experiment, data_hash: str, init: InitSpec) -> tuple[TokenStore | None, str]:
    """The parent's (first) store, or None and why not."""
    paths = (init.validation, *theirs.data.stores[1:]) if init.validation else theirs.data.stores
    try:
        stores = [TokenStore.open(path) for path in paths]
    except (DataError, OSError) as e:
        return None, str(e)
    if joint_hash(stores) != data_hash:
        return None, f"{paths[0]} is not the store that the parent was trained on"
    return stores[0], ""
