"""Scale and shift before a layer and gate after it, by each sequence's noise level.

Written as autograd functions: left to autograd, each would keep copies of its sequence's rows for every token, more
memory than attention takes, and sum their gradients token by token with atomics, slowly and in no fixed order.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sedd.model.packing import sum_over_sequences


def norm_modulate(
    x: Float[Tensor, "tokens hidden"],
    factor: Float[Tensor, "sequences hidden"],
    shift: Float[Tensor, "sequences hidden"],
    sequence: Int[Tensor, "tokens"],
    cu_seqlens: Int[Tensor, "sequences_plus_1"],
) -> Float[Tensor, "tokens hidden"]:
    """layer_norm(x) factor + shift with the rows of each token's sequence.

    Statistics are of x's dtype; the result has shift's, which under autocast is what the next layer takes. A layer
    norm's own weight is best multiplied into `factor`: its gradient is then one of rows and not of tokens.
    """
    y: Tensor = _NormModulate.apply(x, factor, shift, sequence, cu_seqlens)  # type: ignore[no-untyped-call]
    return y


def gated_sum(
    x: Float[Tensor, "tokens hidden"],
    branch: Float[Tensor, "tokens hidden"],
    gate: Float[Tensor, "sequences hidden"],
    sequence: Int[Tensor, "tokens"],
    cu_seqlens: Int[Tensor, "sequences_plus_1"],
) -> Float[Tensor, "tokens hidden"]:
    """x + gate * branch with the gate of each token's sequence, in x's dtype."""
    y: Tensor = _GatedSum.apply(x, branch, gate, sequence, cu_seqlens)  # type: ignore[no-untyped-call]
    return y


_EPSILON = 1e-5


class _NormModulate(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, factor: Tensor, shift: Tensor, sequence: Tensor, cu_seqlens: Tensor
    ) -> Tensor:
        normed, mean, rstd = torch.native_layer_norm(x, [x.shape[-1]], None, None, _EPSILON)
        ctx.save_for_backward(x, factor, mean, rstd, sequence, cu_seqlens)
        ctx.dtype = shift.dtype
        scaled = normed * factor.to(shift.dtype).index_select(0, sequence)
        y = scaled + shift.index_select(0, sequence)
        # Traced by torch 2.11, a cast to the dtype that is there already would cut the gradient off, without a word.
        return y if y.dtype == shift.dtype else y.to(shift.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        x, factor, mean, rstd, sequence, cu_seqlens = ctx.saved_tensors
        shape = [x.shape[-1]]
        normed = torch.native_layer_norm(x, shape, None, None, _EPSILON)[0]
        # Side by side in one sum: it waits for memory more than it adds.
        both = torch.cat((gradient * normed, gradient.to(normed.dtype)), dim=-1)
        d_factor, d_shift = sum_over_sequences(both, cu_seqlens).chunk(2, dim=-1)
        inner = (gradient * factor.to(gradient.dtype).index_select(0, sequence)).to(x.dtype)
        d_x = torch.ops.aten.native_layer_norm_backward(
            inner, x, shape, mean, rstd, None, None, [True, False, False]
        )[0]
        return d_x, d_factor.to(factor.dtype), d_shift.to(ctx.dtype), None, None


class _GatedSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, branch: Tensor, gate: Tensor, sequence: Tensor, cu_seqlens: Tensor
    ) -> Tensor:
        ctx.save_for_backward(branch, gate, sequence, cu_seqlens)
        return x + branch * gate.to(branch.dtype).index_select(0, sequence)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        branch, gate, sequence, cu_seqlens = ctx.saved_tensors
        narrow = gradient.to(branch.dtype)
        d_branch = narrow * gate.to(branch.dtype).index_select(0, sequence)
        d_gate = sum_over_sequences(gradient * branch, cu_seqlens).to(gate.dtype)
        return gradient, d_branch, d_gate, None, None
