"""Queries and keys of one length: attention's logits stay between bounds that a learnt gain of each head sets.

Henry et al. 2020 (arXiv 2010.04245), with the root mean square and a gain a head; large vision transformers need such a
norm to train (Dehghani et al. 2023, arXiv 2302.05442, who use layer norm). A gain for each entry would add nothing: the
matrices before the norm have it.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

_EPSILON = 1e-6


class QueryKeyNorm(nn.Module):
    """Divides each query and each key of a head by its root mean square; queries are then times the head's gain."""

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(heads))

    def forward(
        self, q_and_k: Float[Tensor, "tokens 2 heads head_dim"]
    ) -> Float[Tensor, "tokens 2 heads head_dim"]:
        """`q_and_k` must not be changed before the backward pass."""
        normed: Tensor = _Normed.apply(q_and_k, torch.stack((self.gain, torch.ones_like(self.gain))))  # type: ignore[no-untyped-call] # torch
        return normed


class _Normed(torch.autograd.Function):
    """Keeps what it is given, in its precision: left to autograd it would keep float32 copies."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor) -> Tensor:
        exact = torch.promote_types(x.dtype, torch.float32)
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=exact)
        scale = torch.rsqrt(length.square() / x.shape[-1] + _EPSILON)
        ctx.save_for_backward(x, gain, scale)
        return x * (scale * gain.unsqueeze(-1)).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        x, gain, scale = ctx.saved_tensors
        factor = scale * gain.unsqueeze(-1)
        along = (gradient.to(scale.dtype) * x).sum(-1, keepdim=True)
        d_x = gradient * factor.to(x.dtype)
        d_x.addcmul_(x, factor * scale.square() * along / x.shape[-1], value=-1)
        return d_x, (along * scale).squeeze(-1).sum(0).to(gain.dtype)
