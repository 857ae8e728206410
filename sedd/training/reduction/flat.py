"""A gradient in one piece of memory, of which each parameter's is a part: what ranks exchange at once."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

_ALIGNED = 32  # numbers: each parameter's gradient begins where vector instructions like it


class FlatGradient:
    """Where the gradients of `parameters` lie in a buffer whose length is a multiple of `ranks`."""

    def __init__(self, parameters: Sequence[nn.Parameter], ranks: int) -> None:
        self.parameters = list(parameters)
        self._places, self._length = _places(self.parameters)
        self._length += -self._length % ranks

    def new(self) -> Tensor:
        """A buffer of zeros."""
        like = self.parameters[0]
        return torch.zeros(self._length, dtype=like.dtype, device=like.device)

    def views(self, flat: Tensor) -> list[Tensor]:
        """The parts of a buffer that are the parameters' gradients."""
        return [
            flat[start : start + parameter.numel()].view_as(parameter)
            for start, parameter in zip(self._places, self.parameters, strict=True)
        ]

    def attach(self, flat: Tensor) -> None:
        """Let the parameters' `grad` be the parts of a buffer."""
        for parameter, view in zip(self.parameters, self.views(flat), strict=True):
            parameter.grad = view

    def copy_to(self, flat: Tensor) -> None:
        """Copy the gradients that the parameters have to their places; where one has none, nothing is written."""
        pairs = [
            (view, p.grad)
            for view, p in zip(self.views(flat), self.parameters, strict=True)
            if p.grad is not None
        ]
        torch._foreach_copy_([view for view, _ in pairs], [gradient for _, gradient in pairs])


def _places(parameters: Sequence[nn.Parameter]) -> tuple[list[int], int]:
    """Where each parameter's gradient begins in a buffer, and the buffer's length."""
    places, length = [], 0
    for parameter in parameters:
        places.append(length)
        length += parameter.numel() + -parameter.numel() % _ALIGNED
    return places, length
