"""Compute what lies between the matrix products of a block, by our own kernels or by torch operators.

`fused` (the folder of that name) reads and writes each tensor once; `torch` (modulation.py, rotary.py) runs anywhere,
in any dtype, and is what torch.compile sees, which joins it where Triton supports the card.
"""

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 # its usual name

from sedd.model.attention import PAIRS, attention, fastest
from sedd.model.fused import launch
from sedd.model.fused.gated_norm import gated_norm as fused_gated_norm
from sedd.model.fused.gated_norm import norm_modulate as fused_norm_modulate
from sedd.model.fused.gelu_mlp import gelu_mlp as fused_gelu_mlp
from sedd.model.fused.modulation_rows import modulation_rows as fused_modulation_rows
from sedd.model.fused.rotated_attention import rotated_attention as fused_rotated_attention
from sedd.model.modulation import gated_sum, norm_modulate
from sedd.model.packing import Packing, shift_tokens
from sedd.model.rotary import rotate


def fastest_kernels(device: torch.device, dtype: torch.dtype, hidden: int) -> str:
    """Which to use for activations of this dtype and rows of this width on this device."""
    return "fused" if why_not_fused(device, dtype, hidden) is None else "torch"


@functools.cache
def why_not_fused(device: torch.device, dtype: torch.dtype, hidden: int) -> str | None:
    """Why the fused kernels cannot be used; None if they can. The first call for a width compiles them: a second."""
    return launch.why_not(device, dtype, hidden)


def add_branch_and_norm(
    x: Float[Tensor, "tokens hidden"],
    branch: Float[Tensor, "tokens hidden"] | None,
    gate: Float[Tensor, "sequences hidden"] | None,
    factor: Float[Tensor, "sequences hidden"],
    shift: Float[Tensor, "sequences hidden"],
    packing: Packing,
    place: int,
    dtype: torch.dtype | None = None,
    reach: int = 0,
) -> tuple[Float[Tensor, "tokens hidden"], Float[Tensor, "tokens hidden"]]:
    """The stream x + gate dropout(branch), and its layer norm times factor plus shift, which enters the next layer.

    `place` numbers the dropouts of the network. Norm and stream have x's dtype, what enters has `dtype`, or shift's;
    of that columns come from the `reach` nearest tokens on either side (`shift_tokens`).
    """
    operation = KERNELS[packing.kernels].add_branch_and_norm
    return operation(x, branch, gate, factor, shift, packing, place, dtype or shift.dtype, reach)


def modulation_rows(
    modulation: Float[Tensor, "sequences six_hidden"],
    weight_1: Float[Tensor, "hidden"],
    weight_2: Float[Tensor, "hidden"],
    packing: Packing,
) -> tuple[Tensor, ...]:
    """Shift, factor and gate of a block's first half and of its second: a factor is weight (1 + scale)."""
    return KERNELS[packing.kernels].modulation_rows(modulation, weight_1, weight_2)


def rotated_attention(
    qkv: Float[Tensor, "tokens three_hidden"], turn: tuple[Tensor, Tensor], heads: int, packing: Packing
) -> Float[Tensor, "tokens hidden"]:
    """Attention of queries, keys and values that lie side by side, the first two rotated. `qkv` is consumed."""
    return KERNELS[packing.kernels].rotated_attention(qkv, turn, heads, packing)


def gelu_mlp(
    x: Float[Tensor, "tokens hidden"], up: nn.Linear, down: nn.Linear, packing: Packing
) -> Float[Tensor, "tokens hidden"]:
    """down(gelu(up(x))), with GELU's tanh form."""
    return KERNELS[packing.kernels].gelu_mlp(x, up, down)


class Operations(NamedTuple):
    """One way to compute the operations of this module, which say what the arguments are."""

    add_branch_and_norm: Callable[..., tuple[Tensor, Tensor]]
    modulation_rows: Callable[..., tuple[Tensor, ...]]
    rotated_attention: Callable[..., Tensor]
    gelu_mlp: Callable[..., Tensor]


def _fused_add_branch_and_norm(
    x: Tensor,
    branch: Tensor | None,
    gate: Tensor | None,
    factor: Tensor,
    shift: Tensor,
    packing: Packing,
    place: int,
    dtype: torch.dtype,
    reach: int,
) -> tuple[Tensor, Tensor]:
    if branch is None or gate is None:
        return x, fused_norm_modulate(x, factor, shift, packing, dtype, reach)
    return fused_gated_norm(x, branch, gate, factor, shift, packing, place, dtype, reach)


def _torch_add_branch_and_norm(
    x: Tensor,
    branch: Tensor | None,
    gate: Tensor | None,
    factor: Tensor,
    shift: Tensor,
    packing: Packing,
    place: int,
    dtype: torch.dtype,
    reach: int,
) -> tuple[Tensor, Tensor]:
    where = packing.sequence, packing.cu_seqlens
    if branch is not None and gate is not None:
        x = gated_sum(x, F.dropout(branch, packing.dropout), gate, *where)
    return x, shift_tokens(norm_modulate(x, factor, shift.to(dtype), *where), packing.sequence, reach)


def _torch_modulation_rows(modulation: Tensor, weight_1: Tensor, weight_2: Tensor) -> tuple[Tensor, ...]:
    shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation.chunk(6, dim=-1)
    return shift_1, weight_1 * (1 + scale_1), gate_1, shift_2, weight_2 * (1 + scale_2), gate_2


def _fused_rotated_attention(
    qkv: Tensor, turn: tuple[Tensor, Tensor], heads: int, packing: Packing
) -> Tensor:
    implementation = packing.attention or fastest(qkv.device, qkv.dtype)
    if implementation not in PAIRS:
        return _torch_rotated_attention(qkv, turn, heads, packing)
    return fused_rotated_attention(qkv, turn, heads, packing, implementation)


def _torch_rotated_attention(
    qkv: Tensor, turn: tuple[Tensor, Tensor], heads: int, packing: Packing
) -> Tensor:
    implementation = packing.attention or fastest(qkv.device, qkv.dtype)
    q_and_k, v = rearrange(qkv, "t (g d) -> t g d", g=3 * heads).tensor_split([2 * heads], 1)
    q, k = rotate(q_and_k, *turn).chunk(2, dim=1)
    mixed = attention(q, k, v, packing.cu_seqlens, packing.max_length, implementation=implementation)
    return mixed.flatten(1)


def _torch_gelu_mlp(x: Tensor, up: nn.Linear, down: nn.Linear) -> Tensor:
    y: Tensor = down(F.gelu(up(x), approximate="tanh"))
    return y


KERNELS: dict[str, Operations] = {
    "fused": Operations(
        _fused_add_branch_and_norm,
        fused_modulation_rows,
        _fused_rotated_attention,
        fused_gelu_mlp,
    ),
    "torch": Operations(
        _torch_add_branch_and_norm, _torch_modulation_rows, _torch_rotated_attention, _torch_gelu_mlp
    ),
}
