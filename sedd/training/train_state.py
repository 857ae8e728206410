"""Everything that a checkpoint holds: weights, EMA, optimizer, loss scaler, step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.optim import Optimizer

from sedd.model.ema import Ema
from sedd.model.transformer import Transformer
from sedd.spec.training import TrainingSpec
from sedd.training.optimizers import OPTIMIZERS
from sedd.training.precision import Precision


@dataclass(slots=True, kw_only=True)
class TrainState:
    """What a step changes."""

    model: Transformer
    ema: Ema
    optimizer: Optimizer
    """AdamW, or its share of it where the moments are spread over the ranks; or Muon."""
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

    @property
    def is_sharded(self) -> bool:
        """Whether `gather` must be called, on every rank, before `state_dict`."""
        return hasattr(self.optimizer, "consolidate_state_dict")

    def gather(self) -> None:
        """Bring the moments of all ranks to rank 0. Every rank calls it; nothing to do where they are whole."""
        if self.is_sharded:
            self.optimizer.consolidate_state_dict(to=0)  # type: ignore[attr-defined] # ZeroRedundancyOptimizer's

    @property
    def stepping(self) -> Optimizer:
        """The optimiser that changes this rank's weights: it takes the flag of gradients that are not finite."""
        return self.optimizer.optim if self.is_sharded else self.optimizer  # type: ignore[attr-defined]

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers, still on the device."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "ema": self.ema.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
            "loss_sum": self.loss_sum,
            "loss_steps": self.loss_steps,
            "bad_steps": self.bad_steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take over what `state_dict` gave, of this or another number of ranks."""
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        self.load_optimizer(state)
        self.step = int(state["step"])
        self.loss_sum.copy_(state["loss_sum"])
        self.loss_steps = int(state["loss_steps"])
        self.bad_steps.copy_(state["bad_steps"])

    def load_optimizer(self, state: Mapping[str, Any]) -> None:
        """Take over the moments and the loss scale alone."""
        self.optimizer.load_state_dict(state["optimizer"])
        if self.is_sharded:
            self._bring_counters_back()
        if state["scaler"]:
            self.scaler.load_state_dict(state["scaler"])

    def _bring_counters_back(self) -> None:
        # ZeroRedundancyOptimizer puts AdamW's step counters on the CPU, where its fused form refuses them.
        for weight, moments in self.stepping.state.items():
            moments["step"] = moments["step"].to(weight.device)


def fresh_state(
    model: Transformer, spec: TrainingSpec, precision: Precision, *, ranks: int = 1
) -> TrainState:
    """The state before step 1; `model` is on its device and initialised."""
    device = next(model.parameters()).device
    return TrainState(
        model=model,
        ema=Ema(model, spec.ema_decay),
        optimizer=OPTIMIZERS[spec.optimizer](model, spec, precision.compute, ranks),
        scaler=torch.amp.GradScaler(device.type, enabled=precision.scales_loss),
        step=0,
        loss_sum=torch.zeros((), dtype=torch.float64, device=device),
        loss_steps=0,
        bad_steps=torch.zeros((), dtype=torch.int64, device=device),
    )
