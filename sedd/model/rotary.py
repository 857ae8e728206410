"""Rotary position embedding (Su et al. 2021, arXiv 2104.09864), counted from each sequence's own start."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

_BASE = 10_000.0


def rotation(
    position: Int[Tensor, "tokens"], head_dim: int, dtype: torch.dtype
) -> tuple[Float[Tensor, "tokens 1 half"], Float[Tensor, "tokens 1 half"]]:
    """Cosine and sine of each token's angles, in float32 at least."""
    # The operator imports torch's compiler at its first call: a second of the start of a training.
    angles = _rotation if torch.compiler.is_compiling() else _cosine_and_sine
    cosine, sine = angles(position, head_dim, torch.promote_types(dtype, torch.float32))
    return cosine, sine


@torch.library.custom_op("sedd::rotation", mutates_args=())
def _rotation(position: Tensor, head_dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    # An operator of its own: torch.compile would fuse sines and powers into every layer and compute them 24 times.
    return _cosine_and_sine(position, head_dim, dtype)


def _cosine_and_sine(position: Tensor, head_dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    frequency = _BASE ** (-torch.arange(0, head_dim, 2, device=position.device, dtype=dtype) / head_dim)
    angle = (position.to(dtype).unsqueeze(-1) * frequency).unsqueeze(1)
    return angle.cos(), angle.sin()


@_rotation.register_fake
def _(position: Tensor, head_dim: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    shape = (position.shape[0], 1, head_dim // 2)
    return position.new_empty(shape, dtype=dtype), position.new_empty(shape, dtype=dtype)


def rotate(
    x: Float[Tensor, "tokens heads head_dim"],
    cosine: Float[Tensor, "tokens 1 half"],
    sine: Float[Tensor, "tokens 1 half"],
) -> Float[Tensor, "tokens heads head_dim"]:
    """Turn each pair (x_i, x_{i + half}) by its token's angle; the result has x's dtype."""
    turned: Tensor = _Rotate.apply(x, cosine, sine)  # type: ignore[no-untyped-call] # torch
    return turned


class _Rotate(torch.autograd.Function):
    """The gradient of a turn is the turn back: nothing of x needs to be kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
        ctx.save_for_backward(cosine, sine)
        return _turn(x, cosine, sine)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        cosine, sine = ctx.saved_tensors
        return _turn(gradient, cosine, -sine), None, None


def _turn(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    cosine, sine = cosine.to(x.dtype), sine.to(x.dtype)
    turned = torch.cat((first * cosine, second * cosine), dim=-1)
    turned_first, turned_second = turned.chunk(2, dim=-1)
    turned_first.addcmul_(second, sine, value=-1)
    turned_second.addcmul_(first, sine)
    return turned
