"""Packed sequences: the sequence of each token, and sums over each sequence."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Packing(NamedTuple):
    """Where the sequences lie, made once per forward pass, and how a block computes on them."""

    sequence: Int[Tensor, "tokens"]
    cu_seqlens: Int[Tensor, "sequences_plus_1"]
    max_length: int
    attention: str | None
    """An implementation of attention.py; None: the fastest."""
    kernels: str
    """`fused` or `torch`, see block_ops.py."""
    dropout: float
    """Probability with which an entry of a branch is dropped; 0 outside training."""
    seed: Int[Tensor, "1"] | None
    """Of the fused kernels' dropout in this pass, on the device; None without dropout."""


def sequence_index(cu_seqlens: Int[Tensor, "sequences_plus_1"], tokens: int) -> Int[Tensor, "{tokens}"]:
    """The sequence of each packed token; made on the device, so that no step waits for the GPU."""
    place = torch.arange(tokens, device=cu_seqlens.device, dtype=cu_seqlens.dtype)
    # All borders and minus one, not cu_seqlens[1:]: compiled, a slice is searched from its base (pytorch 182343).
    index = torch.searchsorted(cu_seqlens, place, right=True) - 1
    return index.clamp_max(cu_seqlens.numel() - 2)


def sum_over_sequences(
    values: Float[Tensor, "tokens width"], cu_seqlens: Int[Tensor, "sequences_plus_1"]
) -> Float[Tensor, "sequences width"]:
    """Sum of each sequence's rows, accumulated in float32 at least; in a fixed order.

    index_add would add token by token with atomics: hundreds queue for one row, and the order of the sum, so its last
    bits, changes from run to run.
    """
    wide = values if values.dtype == torch.float64 else values.float()
    # `unsafe` skips a check of the offsets that would wait for the GPU.
    total = torch.segment_reduce(
        wide.contiguous(), "sum", offsets=cu_seqlens.long(), axis=0, unsafe=True, initial=0
    )
    return total.to(values.dtype)


def shifted_columns(hidden: int) -> int:
    """How many of a token's columns the token shift takes from either neighbour: an eighth, in fours."""
    return max(4, hidden // 32 * 4)


def shift_tokens(
    y: Float[Tensor, "tokens hidden"], sequence: Int[Tensor, "tokens"], columns: int
) -> Float[Tensor, "tokens hidden"]:
    """Take each token's first `columns` from the token before it, and as many behind them from the token after.

    Zeros where the sequence has none. After the token shift of RWKV (arXiv 2305.13048), in both directions.
    """
    if not columns:
        return y
    is_inner = (sequence[1:] == sequence[:-1]).unsqueeze(1)
    end = y.new_zeros(1, columns)
    before = torch.cat((end, y[:-1, :columns] * is_inner))
    after = torch.cat((y[1:, columns : 2 * columns] * is_inner, end))
    return torch.cat((before, after, y[:, 2 * columns :]), 1)
