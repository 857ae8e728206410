"""Calls of a network on packed sequences, padded to few shapes; what is called often is replayed as a CUDA graph.

No two batches of proteins have the same number of residues and of sequences, and a graph holds one shape. So both are
rounded up, and so is the longest length: behind the batch come sequences that fill it, which the network keeps apart
from all others as it does with any two, and empty ones. A call has the bits of single launches of the padded call.
"""

import math
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn.functional import pad

from sedd.model.cuda_graph import CudaRecorder, Record, Replayed

_EIGHTHS = 8
"""Residues are rounded up to a multiple of an eighth of a power of two: at most an eighth is added."""
_FEWEST = 16
"""Sequences and the longest length are rounded up to a power of two, at least this."""
_LAUNCHED = 3
"""Calls of one shape by single launches before it is recorded, which takes as long as three."""
_GRAPHS = 32
"""Recorded at most. They work in the same memory, but each keeps its own arguments and result, 140 bytes a residue."""


Call = Callable[..., Tensor]
"""(tokens, cu_seqlens, sigma_bar, labels or not, *, max_length), as `Transformer.forward` → a row for each token."""


class Shape(NamedTuple):
    """What calls have in common that one graph computes."""

    residues: int
    sequences: int
    longest: int
    """At least the longest length, in residues."""
    has_labels: bool


def shape_of(residues: int, sequences: int, max_length: int, *, has_labels: bool = False) -> Shape:
    """The shape to which a call is padded."""
    step = 2 ** max(0, residues.bit_length() - _EIGHTHS.bit_length())
    rounded, longest = math.ceil(residues / step) * step, _power_of_two(max_length)
    filling = math.ceil((rounded - residues) / longest)
    return Shape(rounded, _power_of_two(sequences + filling), longest, has_labels)


def _power_of_two(number: int) -> int:
    return 1 << max(number - 1, _FEWEST - 1).bit_length()


class PaddedCalls:
    """A network whose calls are padded, and recorded where they recur; called as the network itself."""

    def __init__(self, call: Call, record: Callable[[], Record] | None = CudaRecorder) -> None:
        """`call` is a function of its arguments' values alone; `record` makes what records it. None: nothing is."""
        self._call = call
        self._make_record = record
        self._record: Record | None = None
        self._launched: Counter[Shape] = Counter()
        self._graphs: dict[Shape, Replayed] = {}

    @property
    def recorded(self) -> frozenset[Shape]:
        """The shapes that are replayed from now on."""
        return frozenset(self._graphs)

    def __call__(
        self,
        tokens: Int[Tensor, "tokens"],
        cu_seqlens: Int[Tensor, "sequences_plus_1"],
        sigma_bar: Float[Tensor, "sequences"],
        labels: Float[Tensor, "sequences fields"] | None = None,
        *,
        max_length: int,
    ) -> Float[Tensor, "tokens n"]:
        """The call's rows, which no later call writes to."""
        residues, sequences = tokens.numel(), cu_seqlens.numel() - 1
        shape = shape_of(residues, sequences, max_length, has_labels=labels is not None)
        more = shape.sequences - sequences
        values = [
            pad(tokens, (0, shape.residues - residues)),
            _padded_borders(cu_seqlens, shape),
            # Of 1, a noise level as good as any: nothing of it may be infinite.
            pad(sigma_bar, (0, more), value=1.0),
        ]
        if labels is not None:
            values.append(pad(labels, (0, 0, 0, more), value=math.nan))
        if not self._is_replayed(shape):
            return self._call(*values, max_length=shape.longest)[:residues]
        # What is recorded is what the current device is asked for.
        with torch.cuda.device_of(tokens):  # type: ignore[no-untyped-call] # torch
            return self._graph(shape)(*values)[:residues].clone()

    def _is_replayed(self, shape: Shape) -> bool:
        if shape in self._graphs:
            return True
        self._launched[shape] += 1
        is_frequent = self._launched[shape] > _LAUNCHED
        return is_frequent and self._make_record is not None and len(self._graphs) < _GRAPHS

    def _graph(self, shape: Shape) -> Replayed:
        if self._record is None:
            assert self._make_record is not None
            self._record = self._make_record()
        if shape not in self._graphs:
            self._graphs[shape] = Replayed(
                lambda *values: self._call(*values, max_length=shape.longest), self._record
            )
        return self._graphs[shape]


def _padded_borders(cu_seqlens: Tensor, shape: Shape) -> Tensor:
    """Borders of the shape's sequences: behind the given ones those that fill it, then empty ones."""
    more = torch.arange(
        1, shape.sequences + 2 - cu_seqlens.numel(), dtype=cu_seqlens.dtype, device=cu_seqlens.device
    )
    filling = (cu_seqlens[-1] + more * shape.longest).clamp_max(shape.residues)
    return torch.cat((cu_seqlens, filling))
