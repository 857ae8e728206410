"""Whether weights are those of the network that a spec describes."""

from collections.abc import Mapping

import torch
from torch import Tensor

from sedd.errors import CheckpointError
from sedd.model.transformer import Transformer
from sedd.spec.model import ModelSpec


def require_finite(weights: Mapping[str, Tensor], source: str) -> None:
    """Raise CheckpointError, with the first tensor's name, unless all numbers are finite: others make no protein."""
    for name, weight in weights.items():
        if not bool(weight.isfinite().all()):
            count = int((~weight.isfinite()).sum())
            raise CheckpointError(
                f"{source} has weights that are not finite: {count:,} of {weight.numel():,} in {name}",
                hint="its training went wrong: take an older checkpoint",
            )


def require_fitting(weights: Mapping[str, Tensor], spec: ModelSpec, source: str) -> None:
    """Raise CheckpointError, with the first tensor's name, unless these are the weights of a network of this shape.

    Compared before a network is made: a damaged spec may describe one that no memory holds.
    """
    deepest = f"blocks.{spec.blocks - 1}."
    if not any(name.startswith(deepest) for name in weights):
        raise CheckpointError(f"{source} has no tensor {deepest}…: its spec says model.blocks: {spec.blocks}")
    try:
        with torch.device("meta"):
            wanted = Transformer(spec).state_dict()
    except (RuntimeError, TypeError) as e:  # torch cannot count so far
        raise CheckpointError(f"{source}: its spec is of a network that no memory holds") from e
    for name, tensor in wanted.items():
        if name not in weights:
            raise CheckpointError(f"{source} has no tensor {name}")
        for what, seen, right in (
            ("shape", list(weights[name].shape), list(tensor.shape)),
            ("numbers", weights[name].dtype, tensor.dtype),
        ):
            if seen != right:
                raise CheckpointError(
                    f"{source}: tensor {name} has {what} {seen}, a network of its spec {right}"
                )
    if extra := sorted(set(weights) - set(wanted)):
        raise CheckpointError(f"{source} has a tensor {extra[0]} that a network of its spec has not")
