"""The optimisers by name. All take `found_inf` on the device, so that no step waits for the GPU."""

import warnings
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch.optim import AdamW, Optimizer

from sedd.model.transformer import Transformer
from sedd.spec.training import TrainingSpec
from sedd.training.muon import Muon, block_matrices
from sedd.training.one_pass import OnePassAdamW, why_not_one_pass

Build = Callable[[Transformer, TrainingSpec, torch.dtype, int], Optimizer]
"""(network, spec, number format of matrix products, ranks) → the optimiser of all parameters."""


def adamw(model: Transformer, spec: TrainingSpec, compute: torch.dtype, ranks: int) -> Optimizer:
    """Build AdamW, or this rank's share of it where `spec.shard_optimizer` spreads the moments."""
    groups = decay_groups(list(model.parameters()), spec)
    how: dict[str, Any] = {"lr": spec.learning_rate, "betas": (spec.beta1, spec.beta2), "fused": True}
    if spec.shard_optimizer and ranks > 1:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of torch to itself, at this import
            from torch.distributed.optim import ZeroRedundancyOptimizer
        return ZeroRedundancyOptimizer(groups, AdamW, **how)
    trained = [p for group in groups for p in group["params"]]
    return (OnePassAdamW if why_not_one_pass(trained) is None else AdamW)(groups, **how)


def muon(model: Transformer, spec: TrainingSpec, compute: torch.dtype, ranks: int) -> Optimizer:
    """Build Muon for the matrices of the blocks, AdamW for the rest."""
    matrices = block_matrices(model)
    own = {id(weight) for weight, _ in matrices}
    groups = decay_groups([p for p in model.parameters() if id(p) not in own], spec)
    return Muon(
        matrices,
        groups,
        lr=spec.learning_rate,
        weight_decay=spec.weight_decay,
        betas=(spec.beta1, spec.beta2),
        rounding=compute,
    )


OPTIMIZERS: dict[str, Build] = {"adamw": adamw, "muon": muon}


def decay_groups(parameters: list[torch.nn.Parameter], spec: TrainingSpec) -> list[dict[str, Any]]:
    """Return an optimiser's groups of what is trained: matrices decay, biases and norms do not.

    Layers that learn at another rate (`training.layer_decay`) have groups of their own, with a `rate_scale`.
    """
    trained = [p for p in parameters if p.requires_grad]
    layers: dict[float, list[torch.nn.Parameter]] = defaultdict(list)
    for parameter in trained:
        layers[getattr(parameter, "rate_scale", 1.0)].append(parameter)
    groups: list[dict[str, Any]] = []
    for scale, layer in layers.items():
        how = {} if scale == 1 else {"rate_scale": scale}
        groups += [
            {"params": [p for p in layer if p.ndim >= 2], "weight_decay": spec.weight_decay} | how,
            {"params": [p for p in layer if p.ndim < 2], "weight_decay": 0.0} | how,
        ]
    return [group for group in groups if group["params"]]
