"""A rank's part of the training state, as checkpoints hold it; and how it takes its rows from a saved state.

The saved state may be a plain one, or that of any number of ranks: its tensors are `Tensor` or `Pieces`.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from sedd.model.ema import Ema
from sedd.training.muon import Muon
from sedd.training.sharding.rows import Pieces, record, take_rows
from sedd.training.sharding.shards import Shard, Shards

_OfRows = Callable[[Any, Shard], Any]


def shard_averages(model: nn.Module, decay: float, shards: Shards) -> Ema:
    """The averages of this rank's rows."""
    rows = [(shard.name, shard.own) for shard in shards.trained]
    return Ema(model, decay, rows=rows, on_change=shards.spread_weights)


def own_part(shards: Shards, model: nn.Module, ema: Ema, optimizer: Optimizer) -> dict[str, Any]:
    """Weights, averages and moments: records of this rank's rows, where a plain state has whole tensors."""
    by_name = {shard.name: shard for shard in shards.all}
    averages = ema.state_dict()
    return {
        "model": _buffers(model)
        | {name: _recorded(each.own.detach(), each) for name, each in by_name.items()},
        "ema": averages
        | {"averages": {name: _recorded(own, by_name[name]) for name, own in averages["averages"].items()}},
        "optimizer": _map_moments(optimizer.state_dict(), optimizer, shards, _recorded),
    }


@torch.no_grad()
def load_weights(shards: Shards, model: nn.Module, saved: Mapping[str, Any]) -> None:
    """Take over this rank's rows; all others then come from the other ranks. Raises: ValueError: another network's."""
    buffers = _buffers(model)
    names = {shard.name for shard in shards.all} | set(buffers)
    if odd := sorted(names ^ set(saved)):
        raise ValueError(f"the state of another network: {odd[0]} is not in both")
    for shard in shards.all:
        shard.own.copy_(_taken(saved[shard.name], shard))
    for name, buffer in buffers.items():
        buffer.copy_(saved[name])
    shards.spread_all_weights()


def own_averages(shards: Shards, saved: Mapping[str, Any]) -> dict[str, Any]:
    """Of all averages those of this rank's rows."""
    by_name = {shard.name: shard for shard in shards.trained}
    averages = saved["averages"]
    rows = {name: _taken(each, by_name[name]) if name in by_name else each for name, each in averages.items()}
    return {**saved, "averages": rows}


def own_moments(shards: Shards, optimizer: Optimizer, saved: Mapping[str, Any]) -> dict[str, Any]:
    """Of all moments those of this rank's rows."""
    return _map_moments(saved, optimizer, shards, _taken)


def _map_moments(
    saved: Mapping[str, Any], optimizer: Optimizer, shards: Shards, function: _OfRows
) -> dict[str, Any]:
    """An optimiser's state with `function` of what has rows."""
    if isinstance(optimizer, Muon):
        weights = optimizer.param_groups[0]["params"]
        momenta = [
            function(each, shards.of_own(own)) for each, own in zip(saved["momentum"], weights, strict=True)
        ]
        return {
            **saved,
            "momentum": momenta,
            "adamw": _map_moments(saved["adamw"], optimizer.adamw, shards, function),
        }
    order = [shards.of_own(own) for group in optimizer.param_groups for own in group["params"]]
    state = {
        place: {
            name: function(each, order[place]) if _has_rows(each) else each for name, each in moments.items()
        }
        for place, moments in saved["state"].items()
    }
    return {**saved, "state": state}


def _has_rows(value: Any) -> bool:
    return isinstance(value, Pieces) or (isinstance(value, Tensor) and value.ndim > 0)


def _recorded(own: Tensor, shard: Shard) -> Tensor | dict[str, Any]:
    return own if shard.is_whole else record(own, shard.start, shard.rows)


def _taken(value: Tensor | Pieces, shard: Shard) -> Tensor:
    """Raises: ValueError: it has another number of rows than the parameter."""
    rows = value.rows if isinstance(value, Pieces) else value.shape[0]
    if rows != shard.rows:
        raise ValueError(f"{shard.name} has {rows} rows there, and {shard.rows} here")
    return take_rows(value, shard.start, shard.start + shard.own.shape[0])


def _buffers(model: nn.Module) -> dict[str, Tensor]:
    """Those that a state dict has."""
    names = {name for name, _ in model.named_parameters()}
    return {name: value for name, value in model.state_dict().items() if name not in names}
