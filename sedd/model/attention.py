"""Attention over packed sequences: each attends to itself alone; no padding, no loop over sequences.

All implementations share one signature. q, k, v are [tokens, heads, head_dim]; `cu_seqlens` (int32) holds the
sequences' borders, from 0 to the number of tokens; `max_length` is at least the longest sequence's length.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 # its usual name

from sedd.model.fused.tiled_attention import is_written_for, tiled_backward, tiled_forward, why_not_tiled
from sedd.model.packing import sequence_index

Packed = Float[Tensor, "tokens heads head_dim"]
Borders = Int[Tensor, "sequences_plus_1"]


def attention(
    q: Packed,
    k: Packed,
    v: Packed,
    cu_seqlens: Borders,
    max_length: int,
    *,
    implementation: str | None = None,
) -> Packed:
    """softmax(q k' / sqrt(head_dim)) v within each sequence, by the fastest legal implementation or the named one."""
    chosen = implementation if implementation is not None else fastest(q.device, q.dtype)
    return IMPLEMENTATIONS[chosen](q, k, v, cu_seqlens, max_length)


def fastest(device: torch.device, dtype: torch.dtype) -> str:
    """Name of the implementation to use on this device for this dtype.

    flash: half precision on sm_80 and newer; tiled: float16 before sm_80 (V100), or efficient where it cannot be
    compiled; efficient: float32; padded: the rest.
    """
    if device.type != "cuda" or dtype == torch.float64:
        return "padded"
    half = dtype in (torch.float16, torch.bfloat16)
    if half and torch.cuda.get_device_capability(device) >= (8, 0):
        return "flash"
    return "tiled" if why_not_tiled(device, dtype) is None else "efficient"


def is_legal(implementation: str, device: torch.device, dtype: torch.dtype) -> bool:
    """Whether this device can run an implementation in this dtype."""
    if implementation not in PAIRS:
        return True
    half = dtype in (torch.float16, torch.bfloat16)
    if device.type != "cuda" or not (half or dtype == torch.float32):
        return False
    if implementation == "tiled":
        return why_not_tiled(device, dtype) is None
    is_new = torch.cuda.get_device_capability(device) >= (8, 0)
    return is_new or dtype != torch.bfloat16 if implementation == "efficient" else is_new and half


def efficient_attention(q: Packed, k: Packed, v: Packed, cu_seqlens: Borders, max_length: int) -> Packed:
    """PyTorch's memory-efficient kernel in its variable-length form; what a V100 can run."""
    return _efficient_forward(q, k, v, cu_seqlens, max_length, keep=torch.is_grad_enabled())[0]


def tiled_attention(q: Packed, k: Packed, v: Packed, cu_seqlens: Borders, max_length: int) -> Packed:
    """Our own kernels, float16 in a V100's instructions; heads of other sizes than 32, 64 and 128 by `efficient`."""
    if not is_written_for(q.shape[-1], q.device):
        return efficient_attention(q, k, v, cu_seqlens, max_length)
    mixed: Tensor = _TiledAttention.apply(q, k, v, cu_seqlens, max_length)  # type: ignore[no-untyped-call] # torch
    return mixed


class _TiledAttention(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, max_length: int) -> Tensor:
        output, kept = tiled_forward(q, k, v, cu_seqlens, max_length, keep=True)
        ctx.save_for_backward(q, k, v, output, cu_seqlens, *kept)
        ctx.max_length = max_length
        return output

    @staticmethod
    def backward(ctx: Any, d_output: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, output, cu_seqlens, *kept = ctx.saved_tensors
        gradients = tiled_backward(d_output, q, k, v, output, cu_seqlens, ctx.max_length, kept)
        return *gradients, None, None


def flash_attention(q: Packed, k: Packed, v: Packed, cu_seqlens: Borders, max_length: int) -> Packed:
    """PyTorch's own flash kernel in its variable-length form; half precision, sm_80 and newer."""
    return _flash_forward(q, k, v, cu_seqlens, max_length, keep=torch.is_grad_enabled())[0]


def padded_attention(q: Packed, k: Packed, v: Packed, cu_seqlens: Borders, max_length: int) -> Packed:
    """Sequences side by side in a padded batch with a mask; the fastest on CPU, and float64 everywhere."""
    tokens, sequences = q.shape[0], cu_seqlens.numel() - 1
    width = int(cu_seqlens.diff().max()) if q.device.type == "cpu" else max_length
    index = sequence_index(cu_seqlens, tokens)
    slot = index * width + torch.arange(tokens, device=q.device) - cu_seqlens.long()[index]

    def pad(x: Tensor) -> Tensor:
        empty = x.new_zeros(sequences * width, *x.shape[1:])
        return empty.index_copy(0, slot, x).view(sequences, width, *x.shape[1:]).transpose(1, 2)

    place = torch.arange(width, device=q.device)
    # An empty sequence would have no key at all: its rows are read by nobody, but must not become NaN.
    inside = place < cu_seqlens.diff().clamp_min(1).unsqueeze(-1)
    mixed = F.scaled_dot_product_attention(pad(q), pad(k), pad(v), attn_mask=inside[:, None, None, :])
    return mixed.transpose(1, 2).flatten(0, 1).index_select(0, slot)


def explicit_attention(q: Packed, k: Packed, v: Packed, cu_seqlens: Borders, max_length: int) -> Packed:
    """The definition, one matrix over all tokens: what the others are tested against."""
    index = sequence_index(cu_seqlens, q.shape[0])
    exact = torch.promote_types(q.dtype, torch.float32)
    scores = torch.einsum("qhd,khd->hqk", q.to(exact), k.to(exact)) * q.shape[-1] ** -0.5
    scores = scores.masked_fill(index.unsqueeze(0) != index.unsqueeze(1), -torch.inf)
    return torch.einsum("hqk,khd->qhd", scores.softmax(-1), v.to(exact)).to(q.dtype)


IMPLEMENTATIONS: dict[str, Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]] = {
    "efficient": efficient_attention,
    "tiled": tiled_attention,
    "flash": flash_attention,
    "padded": padded_attention,
    "explicit": explicit_attention,
}


class Pair(NamedTuple):
    """A kernel's forward and backward pass, for an autograd function that does more than attention."""

    forward: Callable[..., tuple[Tensor, list[Tensor]]]
    """(q, k, v, cu_seqlens, max_length, *, keep) → output, and what the backward pass wants besides."""
    backward: Callable[..., tuple[Tensor, ...]]
    """(d_output, q, k, v, output, cu_seqlens, max_length, kept) → gradients of q, k and v [tokens, heads, head_dim]."""
    turns_back: bool = False
    """Whether `backward` also takes `turn`, the cosine and sine by which q and k were turned, and undoes it."""


def _efficient_forward(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, max_length: int, *, keep: bool
) -> tuple[Tensor, list[Tensor]]:
    longest = min(max_length, q.shape[0])  # the kernel refuses more
    output, *kept = torch.ops.aten._efficient_attention_forward(
        q.unsqueeze(0),
        k.unsqueeze(0),
        v.unsqueeze(0),
        None,
        cu_seqlens,
        cu_seqlens,
        longest,
        longest,
        0.0,
        0,
        keep,
    )
    return output.squeeze(0), kept[:3]


def _efficient_backward(
    d_output: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    output: Tensor,
    cu_seqlens: Tensor,
    max_length: int,
    kept: list[Tensor],
) -> tuple[Tensor, ...]:
    longest, (logsumexp, seed, offset) = min(max_length, q.shape[0]), kept
    d_q = torch.ops.aten._efficient_attention_backward(
        d_output.unsqueeze(0), q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0), None, output.unsqueeze(0),
        cu_seqlens, cu_seqlens, longest, longest, logsumexp, 0.0, seed, offset, 0, False,
        num_splits_key=1, shared_storage_dqdkdv=True,
    )[0]  # fmt: skip
    # In shared storage the three gradients lie side by side for each token: d_q's is where all begin.
    tokens, heads, head_dim = q.shape
    width = heads * head_dim
    return d_q.as_strided((tokens, 3, heads, head_dim), (3 * width, width, head_dim, 1)).unbind(1)  # type: ignore[no-any-return] # torch


def _flash_forward(
    q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, max_length: int, *, keep: bool
) -> tuple[Tensor, list[Tensor]]:
    output, *kept = torch.ops.aten._flash_attention_forward(
        q, k, v, cu_seqlens, cu_seqlens, max_length, max_length, 0.0, False, False
    )
    return output, kept[:3]


def _flash_backward(
    d_output: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    output: Tensor,
    cu_seqlens: Tensor,
    max_length: int,
    kept: list[Tensor],
) -> tuple[Tensor, ...]:
    logsumexp, state, unused = kept
    gradients = torch.ops.aten._flash_attention_backward(
        d_output,
        q,
        k,
        v,
        output,
        logsumexp,
        cu_seqlens,
        cu_seqlens,
        max_length,
        max_length,
        0.0,
        False,
        state,
        unused,
    )
    return tuple(gradients)


PAIRS = {
    "efficient": Pair(_efficient_forward, _efficient_backward),
    "tiled": Pair(tiled_forward, tiled_backward, turns_back=True),
    "flash": Pair(_flash_forward, _flash_backward),
}


def pair_for(implementation: str, head_dim: int, device: torch.device) -> Pair:
    """A kernel's passes for heads of a size; `tiled` leaves to `efficient` what it is not written for."""
    is_left = implementation == "tiled" and not is_written_for(head_dim, device)
    return PAIRS["efficient" if is_left else implementation]
