"""The token embedding, whose gradient is summed in a fixed order."""

from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 # its usual name


class Embedding(nn.Embedding):
    """Rows of a small table, one a token.

    On a GPU, PyTorch's own gradient sums the tokens of a row in an order that changes from run to run, and with it the
    last bits of every weight from then on. With a few dozen rows a matrix product with ones and zeros is quick, too.
    """

    def forward(self, tokens: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch width"]:
        return self.rows(self.weight, tokens)

    @staticmethod
    def rows(weight: Tensor, tokens: Int[Tensor, "*batch"]) -> Float[Tensor, "*batch width"]:
        """The rows of `weight` at `tokens`, for a table that is another module's."""
        rows: Tensor = _Rows.apply(weight, tokens)  # type: ignore[no-untyped-call]
        return rows


class _Rows(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weight: Tensor, tokens: Tensor) -> Tensor:
        ctx.save_for_backward(tokens)
        ctx.rows = len(weight)
        return F.embedding(tokens, weight)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (tokens,) = ctx.saved_tensors
        tokens, gradient = tokens.flatten(), gradient.flatten(0, -2)
        is_row = gradient.new_zeros(ctx.rows, len(tokens)).scatter_(0, tokens.long().unsqueeze(0), 1.0)
        return is_row @ gradient, None
