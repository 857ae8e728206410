"""The optimisers by name. All take `found_inf` on the device, so that no step waits for the GPU."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from sedd.model.adamw import AdamW
from sedd.model.transformer import Transformer
from sedd.spec.training import TrainingSpec
from sedd.training.muon import Muon, block_matrices
from sedd.training.one_pass import OnePassAdamW, why_not_one_pass
from sedd.training.sharding.matrices import ByTurns
from sedd.training.sharding.shards import Shards

Build = Callable[[Transformer, TrainingSpec, torch.dtype, Shards | None], Optimizer]
"""(network, spec, number format of matrix products, shards) → the optimiser of all parameters, or of these shards."""


def adamw(model: Transformer, spec: TrainingSpec, compute: torch.dtype, shards: Shards | None) -> Optimizer:
    """Build AdamW."""
    groups = decay_groups(_own(list(model.parameters()), shards), spec)
    how: dict[str, Any] = {"lr": spec.learning_rate, "betas": (spec.beta1, spec.beta2), "fused": True}
    trained = [p for group in groups for p in group["params"]]
    is_one_pass = shards is None and why_not_one_pass(trained) is None
    return (OnePassAdamW if is_one_pass else AdamW)(groups, **how)


def muon(model: Transformer, spec: TrainingSpec, compute: torch.dtype, shards: Shards | None) -> Optimizer:
    """Build Muon for the matrices of the blocks, AdamW for the rest."""
    matrices = block_matrices(model)
    own = {id(weight) for weight, _ in matrices}
    groups = decay_groups(_own([p for p in model.parameters() if id(p) not in own], shards), spec)
    return Muon(
        list(zip(_own([weight for weight, _ in matrices], shards), (n for _, n in matrices), strict=True)),
        groups,
        lr=spec.learning_rate,
        weight_decay=spec.weight_decay,
        betas=(spec.beta1, spec.beta2),
        rounding=compute,
        orthogonalised=None if shards is None else ByTurns(shards.ranks),
    )


def _own(parameters: Sequence[Tensor], shards: Shards | None) -> list[Any]:
    """The parameters themselves, or this rank's rows of them."""
    return list(parameters) if shards is None else [shards.own(parameter) for parameter in parameters]


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
