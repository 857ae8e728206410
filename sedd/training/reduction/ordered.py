"""The sum of the micro-batches' gradients in an order that does not depend on the number of ranks.

A sum of floating-point numbers depends on its order. So micro-batches are the leaves of one fixed tree, whatever
the ranks: with M = m 2^k of them (m odd), those of like number modulo 2^k are added up one after the other; then the
sums modulo 2s join in pairs, c and c + s, to sums modulo s, down to s = 1. Of R = 2^a ranks, rank r has the
micro-batches r, r + R, r + 2R, …: all leaves of the node (r mod R). So it adds up its own, and the upper a levels of
the tree are left to the exchange, which adds in the same order.
"""

from collections.abc import Callable, Sequence
from typing import Literal, get_args

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sedd.training.distributed import Ranks
from sedd.training.reduction.flat import FlatGradient

Reduction = Literal["all_reduce", "ordered"]
REDUCTIONS = frozenset(get_args(Reduction))
"""all_reduce: DDP's, which also overlaps with the backward pass."""
_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # its name up to torch 2.12
_BUCKET = 1 << 24
"""Numbers that are exchanged at a time: 64 MiB of fp32."""


class OrderedSum:
    """Gradients of `parameters`, summed over `leaves` micro-batches of all ranks along the fixed tree.

    Memory: `buffers_needed` times the gradient, and one bucket. `in_place`: whoever adds gradients adds to those that
    are there, as autograd does; a CUDA graph brings its own, and begins where there are none.
    """

    def __init__(
        self, parameters: Sequence[nn.Parameter], leaves: int, ranks: Ranks, *, in_place: bool = True
    ) -> None:
        self._flat, self._leaves, self._ranks = FlatGradient(parameters, ranks.size), leaves, ranks
        self._in_place = in_place
        self._free: list[Tensor] = []

    def __call__(
        self, add_gradient: Callable[[int], None], on_computed: Callable[[], None] = lambda: None
    ) -> None:
        """Leave the global sum in the parameters' `grad`; `add_gradient(n)` adds the n-th micro-batch's to it.

        `on_computed` is called before the exchange.
        """
        total = self._node(self._ranks.rank, self._ranks.size, add_gradient)
        on_computed()
        if self._ranks.size > 1:
            _add_over_ranks(total, self._ranks.size)
        self._flat.attach(total)
        self._free.append(total)  # free when the next step begins

    def _node(self, number: int, stride: int, add_gradient: Callable[[int], None]) -> Tensor:
        """The sum over the micro-batches `number`, `number` + `stride`, …"""
        if stride == pairing(self._leaves):
            return self._leaf(range(number, self._leaves, stride), add_gradient)
        total = self._node(number, 2 * stride, add_gradient)
        other = self._node(number + stride, 2 * stride, add_gradient)
        total += other
        self._free.append(other)
        return total

    def _leaf(self, numbers: range, add_gradient: Callable[[int], None]) -> Tensor:
        """The micro-batches' gradients added up one after the other, by autograd itself or by a graph."""
        total = self._free.pop() if self._free else self._flat.new()
        total.zero_()
        if self._in_place:
            self._flat.attach(total)
        else:
            for parameter in self._flat.parameters:
                parameter.grad = None
        for number in numbers:
            add_gradient(number)
        if not self._in_place:
            self._flat.copy_to(total)
        return total


def pairing(leaves: int) -> int:
    """The largest power of two that divides the number of micro-batches: below it sums join in pairs."""
    return leaves & -leaves


def buffers_needed(leaves: int, ranks: int) -> int:
    """How many sums as large as the gradient a rank holds at once: one, and one a level of its own part of the tree."""
    return 1 + (pairing(leaves) // ranks).bit_length() - 1


def _add_over_ranks(flat: Tensor, ranks: int) -> None:
    """Replace `flat` by its sum over the ranks, added along the upper levels of the tree.

    Each rank gets all ranks' parts of its share, adds them, and gives the sum to all: it sends as much as a ring does.
    """
    step = _BUCKET - _BUCKET % ranks
    for start in range(0, flat.numel(), step):
        bucket = flat[start : start + step]
        parts = torch.empty_like(bucket)
        dist.all_to_all_single(parts, bucket)
        rows = parts.view(ranks, -1)
        stride = ranks // 2
        while stride:
            rows[:stride] += rows[stride : 2 * stride]
            stride //= 2
        _gather(bucket, rows[0])
