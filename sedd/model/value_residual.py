"""Values of the first block, which are nearest to the residues themselves, mixed into those of a later one.

Zhou et al. 2024 (arXiv 2410.17897), with learnt weights; here they start such that nothing is mixed in.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


class ValueResidual(nn.Module):
    """Weights of the first block's values and of a block's own, from (0, 1) on."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.tensor([0.0, 1.0]))

    def forward(
        self, values: Float[Tensor, "tokens hidden"], first: Float[Tensor, "tokens hidden"]
    ) -> Float[Tensor, "tokens hidden"]:
        """Both must not be changed before the backward pass."""
        mixed: Tensor = _Mixed.apply(values, first, self.mix)  # type: ignore[no-untyped-call] # torch
        return mixed


class _Mixed(torch.autograd.Function):
    """The gradient of a weight is a sum over all of a batch's values: in float32, as autograd would not take it."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, first: Tensor, mix: Tensor) -> Tensor:
        ctx.save_for_backward(values, first, mix)
        return first * mix[0] + values * mix[1]

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values, first, mix = ctx.saved_tensors
        exact = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
        d_mix = torch.stack([(exact * each).sum() for each in (first, values)])
        return gradient * mix[1], gradient * mix[0], d_mix.to(mix.dtype)
