"""Everything that a checkpoint holds: weights, EMA, optimizer, loss scaler, step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from sedd.model.ema import Ema
from sedd.model.transformer import Transformer
from sedd.spec.training import TrainingSpec
from sedd.training.optimizers import OPTIMIZERS
from sedd.training.precision import Precision
from sedd.training.sharding.rank_part import (
    load_weights,
    own_averages,
    own_moments,
    own_part,
    shard_averages,
)
from sedd.training.sharding.rows import whole
from sedd.training.sharding.scaler import ShardScaler
from sedd.training.sharding.shards import Shards


@dataclass(slots=True, kw_only=True)
class TrainState:
    """What a step changes."""

    model: Transformer
    ema: Ema
    optimizer: Optimizer
    """Of all weights; of this rank's rows where they are spread over the ranks."""
    scaler: torch.amp.GradScaler
    """Disabled where the precision needs no loss scaling."""
    step: int
    """Optimiser steps done."""
    loss_sum: torch.Tensor
    """Sum of the global losses since the last logged step, float64."""
    loss_steps: int
    """How many losses that are."""
    bad_steps: torch.Tensor
    """Consecutive steps whose gradient was not finite, int64."""
    shards: Shards | None = None
    """Where the state is spread over the ranks: this rank's part."""

    def step_and_average(self, norm: Tensor) -> None:
        """Move the weights by gradients of this norm, and average them; the optimiser skips what is not finite."""
        optimizer, scaler = self.optimizer, self.scaler
        if scaler.is_enabled():
            scaler.step(optimizer)
            scaler.update()
        else:
            bad = ~torch.isfinite(norm)
            optimizer.found_inf = bad.float()  # type: ignore[attr-defined] # what GradScaler hands to fused optimisers
            optimizer.step()
        self.ema.update()

    def drop_gradients(self) -> None:
        """Free the gradients of the step before."""
        if self.shards is not None:
            self.shards.drop_gradients()
        else:
            self.optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers, still on the device; of this rank's part records of rows."""
        return {
            "step": self.step,
            **self._networks_part(),
            "scaler": self.scaler.state_dict(),
            "loss_sum": self.loss_sum,
            "loss_steps": self.loss_steps,
            "bad_steps": self.bad_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave, of this or another number of ranks."""
        if self.shards is None:
            state = {**state, **whole({key: state[key] for key in ("model", "ema", "optimizer")})}
            self.model.load_state_dict(state["model"])
            self.ema.load_state_dict(state["ema"])
        else:
            load_weights(self.shards, self.model, state["model"])
            self.ema.load_state_dict(own_averages(self.shards, state["ema"]))
        self.load_optimizer(state)
        self.step = int(state["step"])
        self.loss_sum.copy_(state["loss_sum"])
        self.loss_steps = int(state["loss_steps"])
        self.bad_steps.copy_(state["bad_steps"])

    def load_optimizer(self, state: Mapping[str, Any]) -> None:
        """Take over the moments and the loss scale alone."""
        moments = state["optimizer"]
        if self.shards is not None:
            moments = own_moments(self.shards, self.optimizer, moments)
        self.optimizer.load_state_dict(moments)
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])

    def _networks_part(self) -> dict[str, Any]:
        if self.shards is not None:
            return own_part(self.shards, self.model, self.ema, self.optimizer)
        return {
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }


def fresh_state(
    model: Transformer, spec: TrainingSpec, precision: Precision, *, shards: Shards | None = None
) -> TrainState:
    """The state before step 1; `model` is on its device and initialised, `shards` are this rank's part of it."""
    device = next(model.parameters()).device
    scaler = torch.amp.GradScaler if shards is None else ShardScaler
    return TrainState(
        model=model,
        shards=shards,
        ema=Ema(model, spec.ema_decay) if shards is None else shard_averages(model, spec.ema_decay, shards),
        optimizer=OPTIMIZERS[spec.optimizer](model, spec, precision.compute, shards),
        scaler=scaler(device.type, enabled=precision.scales_loss),
        step=0,
        loss_sum=torch.zeros((), dtype=torch.float64, device=device),
        loss_steps=0,
        bad_steps=torch.zeros((), dtype=torch.int64, device=device),
    )
