"""Attention of queries and keys rotated where they lie, and gradients turned back there: rotate.cu."""

import ctypes
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sedd.model.attention import pair_for
from sedd.model.fused.launch import at, block_module
from sedd.model.packing import Packing

_HEADS = 4
"""Heads that a thread turns by one angle, as in rotate.cu."""


def rotated_attention(
    qkv: Float[Tensor, "tokens three_hidden"],
    turn: tuple[Tensor, Tensor],
    heads: int,
    packing: Packing,
    implementation: str,
) -> Float[Tensor, "tokens hidden"]:
    """Attention of [queries, keys, values] side by side, rotated first. `qkv` is consumed: it is rotated in place."""
    mixed: Tensor = _RotatedAttention.apply(qkv, *turn, heads, packing, implementation)  # type: ignore[no-untyped-call] # torch
    return mixed


class _RotatedAttention(torch.autograd.Function):
    """Queries, keys and values are never copied apart, nor are their gradients put together from parts."""

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, cosine: Tensor, sine: Tensor, heads: int, packing: Packing, implementation: str
    ) -> Tensor:
        rotate_(qkv, cosine, sine, heads)
        q, k, v = qkv.view(qkv.shape[0], 3, heads, -1).unbind(1)
        output, kept = pair_for(implementation, q.shape[-1], q.device).forward(
            q, k, v, packing.cu_seqlens, packing.max_length, keep=any(ctx.needs_input_grad)
        )
        ctx.save_for_backward(qkv, output, packing.cu_seqlens, cosine, sine, *kept)
        ctx.heads, ctx.max_length, ctx.implementation = heads, packing.max_length, implementation
        return output.flatten(1)

    @staticmethod
    def backward(ctx: Any, d_output: Tensor) -> tuple[Tensor | None, ...]:
        qkv, output, cu_seqlens, cosine, sine, *kept = ctx.saved_tensors
        q, k, v = qkv.view(qkv.shape[0], 3, ctx.heads, -1).unbind(1)
        pair, turn = pair_for(ctx.implementation, q.shape[-1], q.device), (cosine, sine)
        given = d_output.reshape(output.shape), q, k, v, output, cu_seqlens, ctx.max_length, kept
        if pair.turns_back:
            d_qkv = side_by_side(pair.backward(*given, turn))
        else:
            d_q, d_k, d_v = pair.backward(*given)
            d_qkv = turned_back(d_q, d_k, d_v, turn)
        return d_qkv, None, None, None, None, None


def rotate_(
    qkv: Float[Tensor, "tokens three_hidden"], cosine: Tensor, sine: Tensor, heads: int, *, back: bool = False
) -> None:
    """Turn queries and keys of [tokens, 3, heads, head_dim] by each token's angles, in place; `back` undoes it."""
    q, k, _ = qkv.view(qkv.shape[0], 3, -1).unbind(1)
    _rotate(q, k, None, (cosine, sine), heads, -1.0 if back else 1.0, qkv)


def turned_back(
    d_q: Tensor, d_k: Tensor, d_v: Tensor, turn: tuple[Tensor, Tensor]
) -> Float[Tensor, "tokens three_hidden"]:
    """Gradients [tokens, heads, head_dim] of turned queries and keys and of values: of the three side by side.

    In place where they lie side by side already.
    """
    tokens, heads, head_dim = d_q.shape
    width = heads * head_dim
    if d_q.stride(0) == 3 * width:
        joined = side_by_side((d_q, d_k, d_v))
        rotate_(joined, *turn, heads, back=True)
        return joined
    joined = d_q.new_empty(tokens, 3 * width)
    d_q, d_k, d_v = (each.contiguous() for each in (d_q, d_k, d_v))
    _rotate(d_q, d_k, d_v, turn, heads, -1.0, joined)
    return joined


def side_by_side(gradients: tuple[Tensor, ...]) -> Float[Tensor, "tokens three_hidden"]:
    """The tensor whose thirds three gradients are, which lie side by side for each token."""
    tokens, heads, head_dim = gradients[0].shape
    width = 3 * heads * head_dim
    return gradients[0].as_strided((tokens, width), (width, 1))


def _rotate(
    q: Tensor, k: Tensor, v: Tensor | None, turn: tuple[Tensor, Tensor], heads: int, way: float, qkv: Tensor
) -> None:
    (cosine, sine), tokens = turn, qkv.shape[0]
    half = cosine.shape[-1]
    module = block_module(qkv.device, qkv.shape[1] // 3, qkv.dtype, qkv.dtype)
    threads = tokens * -(-(2 if v is None else 3) * heads // _HEADS) * (half // 4)
    module.launch(
        "rotate", (-(-threads // 256), 1), 256,
        at(q), at(k), at(v), ctypes.c_int(q.stride(0)), at(cosine), at(sine),
        ctypes.c_int(tokens), ctypes.c_int(heads), ctypes.c_int(half), ctypes.c_float(way), at(qkv),
    )  # fmt: skip
