"""What is replayed reads its arguments anew; on a GPU, and with a recorder that does the work again."""

from collections.abc import Callable

import pytest
import torch

from sedd.model.cuda_graph import Replayed


class Again:
    """A recording for the CPU: it calls what was recorded."""

    def __init__(self, work: Callable[[], None]) -> None:
        work()
        self.replay = work


GPU = pytest.param(
    "cuda",
    marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")],
)


@pytest.mark.parametrize("device", ["cpu", GPU])
def test_a_replay_computes_what_the_function_does_of_new_arguments(device):
    def function(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return (a * b).cumsum(0) + b.mean()

    replayed = Replayed(function, Again if device == "cpu" else None)
    for step in range(4):
        a, b = torch.arange(5.0, device=device) + step, torch.tensor(step - 1.0, device=device)
        assert torch.equal(replayed(a, b), function(a, b))
