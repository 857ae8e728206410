"""Packed sequences: the sequence of each token, and sums over each sequence."""

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sedd.spec.model import neighbour_columns


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


def shift_tokens(
    y: Float[Tensor, "tokens hidden"], sequence: Int[Tensor, "tokens"], reach: int
) -> Float[Tensor, "tokens hidden"]:
    """Take a sixteenth of each token's columns from the token before, the next one from that after, and so on.

    So for the `reach` nearest tokens on either side; zeros where the sequence has none. After the token shift of RWKV
    (arXiv 2305.13048), in both directions and further.
    """
    if not reach:
        return y
    columns = neighbour_columns(y.shape[1])
    away = [step for distance in range(1, reach + 1) for step in (distance, -distance)]
    parts = [_moved(y[:, n * columns : (n + 1) * columns], sequence, step) for n, step in enumerate(away)]
    return torch.cat((*parts, y[:, 2 * reach * columns :]), 1)


def _moved(rows: Tensor, sequence: Tensor, step: int) -> Tensor:
    """Each token's rows from the token `step` before it (below 0: after it) in its sequence, or zeros."""
    place = torch.arange(len(sequence), device=sequence.device) - step
    is_there = (place >= 0) & (place < len(sequence)) & (sequence.roll(step) == sequence)
    return rows.roll(step, 0) * is_there.unsqueeze(1)
