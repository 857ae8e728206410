"""The sum of the ranks' gradients, exchanged once all of a step's micro-batches are computed.

For gradients that CUDA graphs compute: a graph's kernels leave no place between them at which DDP could exchange what
is ready.
"""

from collections.abc import Sequence

import torch.distributed as dist
from torch import Tensor, nn

from sedd.training.reduction.flat import FlatGradient


class SumAfterwards:
    """Replaces the gradients of `parameters` by their sums over the ranks; keeps a buffer as large as the gradient."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._flat = FlatGradient(parameters, ranks=1)
        self._buffer: Tensor | None = None

    def __call__(self) -> None:
        """Exchange; every rank calls it. A parameter without a gradient counts as one whose gradient is 0."""
        if self._buffer is None:
            self._buffer = self._flat.new()
        elif any(parameter.grad is None for parameter in self._flat.parameters):
            self._buffer.zero_()
        self._flat.copy_to(self._buffer)
        dist.all_reduce(self._buffer)
        self._flat.attach(self._buffer)
