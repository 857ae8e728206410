"""Make the network that a spec describes from weights that were read, after a check that they fit it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

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


def fitting_network(
    weights: Mapping[str, Tensor], spec: ModelSpec, source: str, *, kernels: str | None = None
) -> Transformer:
    """A network of this shape with these weights. Raises: CheckpointError, with the first tensor that does not fit.

    Compared before the network has memory: a damaged spec may describe one that none holds.
    """
    deepest = f"blocks.{spec.blocks - 1}."
    if not any(name.startswith(deepest) for name in weights):
        raise CheckpointError(f"{source} has no tensor {deepest}…: its spec says model.blocks: {spec.blocks}")
    try:
        with torch.device("meta"), _Undrawn():
            model = Transformer(spec, kernels=kernels)
    except (RuntimeError, TypeError) as e:  # torch cannot count so far
        raise CheckpointError(f"{source}: its spec is of a network that no memory holds") from e
    _require_alike(weights, model.state_dict(), source)
    model.load_state_dict({name: weight.clone() for name, weight in weights.items()}, assign=True)
    return model


class _Undrawn(TorchFunctionMode):
    """Skips the random first weights, which the weights that were read replace.

    On the meta device torch works these out in Python, for which it imports its compiler: that takes seconds.
    """

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Sequence[type],
        arguments: tuple[Any, ...] = (),
        named: Mapping[str, Any] | None = None,
    ) -> Any:
        if getattr(function, "__module__", None) == nn.init.__name__:
            return arguments[0] if arguments else next(iter((named or {}).values()))
        return function(*arguments, **(named or {}))


def _require_alike(weights: Mapping[str, Tensor], wanted: Mapping[str, Tensor], source: str) -> None:
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
