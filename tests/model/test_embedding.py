"""The embedding is PyTorch's, but for the order in which its gradient is summed."""

import pytest
import torch
from torch import nn

from sedd.model.embedding import Embedding


@pytest.mark.parametrize("shape", [(500,), (5, 100), (0,)])
@pytest.mark.parametrize("index", [torch.int32, torch.int64])
def test_rows_and_gradient_are_those_of_the_definition(shape: tuple[int, ...], index: torch.dtype) -> None:
    ours, theirs = Embedding(33, 8).double(), nn.Embedding(33, 8).double()
    ours.load_state_dict(theirs.state_dict())
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 30, shape, generator=generator).to(index)  # three rows are never asked for
    weight = torch.randn(*shape, 8, generator=generator, dtype=torch.float64)
    for embedding in (ours, theirs):
        (embedding(tokens) * weight).sum().backward()
    assert torch.equal(ours(tokens), theirs(tokens))
    torch.testing.assert_close(ours.weight.grad, theirs.weight.grad, rtol=1e-12, atol=1e-12)
