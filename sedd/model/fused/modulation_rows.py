"""What a block's modulation means to its two norms and gates, and its gradients, in a launch each: modulation.cu."""

import ctypes
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sedd.model.fused.launch import at, block_module

Rows = Float[Tensor, "sequences hidden"]


def modulation_rows(
    modulation: Float[Tensor, "sequences six_hidden"],
    weight_1: Float[Tensor, "hidden"],
    weight_2: Float[Tensor, "hidden"],
) -> tuple[Rows, Rows, Rows, Rows, Rows, Rows]:
    """Shift, factor and gate of a block's halves, float32: a factor is weight (1 + scale)."""
    rows: tuple[Rows, Rows, Rows, Rows, Rows, Rows] = _ModulationRows.apply(modulation, weight_1, weight_2)  # type: ignore[no-untyped-call] # torch
    return rows


class _RowGradients(ctypes.Structure):
    _fields_ = (("of", ctypes.c_void_p * 6), ("stride", ctypes.c_int * 6))


class _ModulationRows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, modulation: Tensor, weight_1: Tensor, weight_2: Tensor) -> tuple[Tensor, ...]:
        modulation = modulation.contiguous()
        sequences, hidden = modulation.shape[0], weight_1.numel()
        rows = weight_1.new_empty(6, sequences, hidden)
        ctx.save_for_backward(modulation, weight_1, weight_2)
        block_module(rows.device, hidden, modulation.dtype, modulation.dtype).launch(
            "modulation_rows", (sequences, -(-6 * hidden // 1024)), 256,
            at(modulation), at(weight_1), at(weight_2), ctypes.c_int(sequences), at(rows),
        )  # fmt: skip
        return rows.unbind(0)

    @staticmethod
    def backward(ctx: Any, *d_rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        modulation, weight_1, weight_2 = ctx.saved_tensors
        sequences, hidden = modulation.shape[0], weight_1.numel()
        # Often every third row of another tensor; a row itself lies in one piece.
        given = [d if d.stride(-1) == 1 and d.stride(0) % 4 == 0 else d.contiguous() for d in d_rows]
        told = _RowGradients(
            (ctypes.c_void_p * 6)(*(d.data_ptr() for d in given)),
            (ctypes.c_int * 6)(*(d.stride(0) for d in given)),
        )
        d_modulation, d_weights = torch.empty_like(modulation), weight_1.new_empty(2, hidden)
        block_module(modulation.device, hidden, modulation.dtype, modulation.dtype).launch(
            "modulation_rows_backward", (6, -(-hidden // 128)), 256,
            told, at(modulation), at(weight_1), at(weight_2), ctypes.c_int(sequences),
            at(d_modulation), at(d_weights),
        )  # fmt: skip
        return d_modulation, d_weights[0], d_weights[1]
