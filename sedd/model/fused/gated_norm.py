"""Gate, dropout, residual sum, norm, scale and shift in one pass over memory, forward and backward: norm.cu.

Left to single operators of torch, the passes over memory of what lies between matrix products take longer than the
products and attention together. `torch.compile` would join them, where Triton supports the card.
"""

import ctypes
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sedd.model.fused.launch import ROWS, at, block_module, norm_blocks, norm_threads, tile_rows
from sedd.model.packing import Packing

_EPSILON = 1e-5


def norm_modulate(
    x: Float[Tensor, "tokens hidden"],
    factor: Float[Tensor, "sequences hidden"],
    shift: Float[Tensor, "sequences hidden"],
    packing: Packing,
    dtype: torch.dtype,
    reach: int,
) -> Float[Tensor, "tokens hidden"]:
    """layer_norm(x) factor + shift with the rows of each token's sequence, in a dtype; then `shift_tokens`."""
    rows = _rows(factor), _rows(shift)
    y: Tensor = _GatedNorm.apply(x, None, None, *rows, packing, 0, dtype, reach)[1]  # type: ignore[no-untyped-call]
    return y


def gated_norm(
    x: Float[Tensor, "tokens hidden"],
    branch: Float[Tensor, "tokens hidden"],
    gate: Float[Tensor, "sequences hidden"],
    factor: Float[Tensor, "sequences hidden"],
    shift: Float[Tensor, "sequences hidden"],
    packing: Packing,
    place: int,
    dtype: torch.dtype,
    reach: int,
) -> tuple[Float[Tensor, "tokens hidden"], Float[Tensor, "tokens hidden"]]:
    """x + gate dropout(branch), and `norm_modulate` of it. `place` tells this dropout from the network's others."""
    both: tuple[Tensor, Tensor] = _GatedNorm.apply(  # type: ignore[no-untyped-call] # torch
        x, branch, _rows(gate), _rows(factor), _rows(shift), packing, place, dtype, reach
    )
    return both


class _GatedNorm(torch.autograd.Function):
    """Without a branch: the norm alone, and x itself in place of the sum."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        branch: Tensor | None,
        gate: Tensor | None,
        factor: Tensor,
        shift: Tensor,
        packing: Packing,
        place: int,
        dtype: torch.dtype,
        reach: int,
    ) -> tuple[Tensor | None, Tensor]:
        length, hidden = x.shape
        module = block_module(x.device, hidden, branch.dtype if branch is not None else dtype, dtype)
        x_out = torch.empty_like(x) if branch is not None else x
        y = torch.empty_like(x, dtype=dtype)
        mean, rstd = x.new_empty(length), x.new_empty(length)
        module.launch(
            "gated_norm_forward", (-(-length // ROWS), 1), norm_threads(hidden),
            at(x), at(branch), at(gate), at(factor), at(shift),
            at(packing.sequence), ctypes.c_int(length), *_dropout(packing, place), ctypes.c_float(_EPSILON),
            ctypes.c_int(reach), at(x_out), at(y), at(mean), at(rstd),
        )  # fmt: skip
        ctx.save_for_backward(x_out, branch, gate, factor, mean, rstd)
        ctx.packing, ctx.place, ctx.dtype, ctx.reach = packing, place, dtype, reach
        ctx.set_materialize_grads(False)
        return (x_out if branch is not None else None), y

    @staticmethod
    def backward(ctx: Any, d_x_out: Tensor | None, d_y: Tensor | None) -> tuple[Tensor | None, ...]:
        x_out, branch, gate, factor, mean, rstd = ctx.saved_tensors
        length, hidden = x_out.shape
        cu_seqlens = ctx.packing.cu_seqlens
        sequences = cu_seqlens.numel() - 1
        module = block_module(
            x_out.device, hidden, branch.dtype if branch is not None else ctx.dtype, ctx.dtype
        )
        d_x = torch.empty_like(x_out)
        d_branch = torch.empty_like(branch) if branch is not None else None
        threads = norm_threads(hidden)
        rows = tile_rows(x_out, norm_blocks(threads))
        tiles = -(-length // rows)
        parts = x_out.new_empty(tiles + sequences, 3, hidden)
        sums = x_out.new_empty(sequences, 3, hidden)
        d_x_out = d_x_out.contiguous() if d_x_out is not None else None
        d_y = d_y.contiguous() if d_y is not None else None
        module.launch(
            "gated_norm_backward", (tiles, 1), threads,
            at(d_x_out), at(d_y), at(x_out), at(mean), at(rstd), at(factor), at(branch), at(gate),
            at(ctx.packing.sequence), ctypes.c_int(length), ctypes.c_int(rows), *_dropout(ctx.packing, ctx.place),
            ctypes.c_int(ctx.reach), at(d_x), at(d_branch), at(parts),
        )  # fmt: skip
        module.launch(
            "sum_slots", (sequences, -(-3 * hidden // 128)), 128,
            at(parts), at(cu_seqlens), ctypes.c_int(rows), at(sums),
        )  # fmt: skip
        d_gate, d_factor, d_shift = sums.unbind(1)
        return (
            d_x,
            d_branch,
            d_gate if branch is not None else None,
            d_factor,
            d_shift,
            None,
            None,
            None,
            None,
        )


def _dropout(
    packing: Packing, place: int
) -> tuple[ctypes.c_void_p, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_float]:
    threshold = round(packing.dropout * 2**32)
    scale = 1 / (1 - packing.dropout)
    return at(packing.seed), ctypes.c_uint32(place), ctypes.c_uint32(threshold), ctypes.c_float(scale)


def _rows(x: Tensor) -> Tensor:
    # Perhaps a part of wider rows: the kernels know no strides.
    return x.float().contiguous()
