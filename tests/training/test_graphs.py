"""Recorded gradients, with a recorder that does the work again: what a replay reads and where it adds is the same."""

from collections.abc import Callable

import pytest
import torch

from sedd.errors import SpecError
from sedd.model.transformer import Transformer
from sedd.spec.model import ModelSpec
from sedd.training.distributed import Ranks
from sedd.training.graphs import GradientGraphs
from sedd.training.loader import DeviceBatch
from sedd.training.network import LossInputs, build_network, rounded_up
from sedd.training.precision import PRECISIONS
from tests.tiny import tiny_spec

CPU = torch.device("cpu")


class Again:
    """A recording that does the work again, into the same gradients, as a graph writes to the same memory."""

    made = 0

    def __init__(self, model: Transformer, work: Callable[[], None]) -> None:
        Again.made += 1
        work()
        self.work, self.parameters = work, list(model.parameters())
        self.gradients = [p.grad for p in self.parameters]

    def replay(self) -> None:
        self.work()
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            gradient.copy_(parameter.grad)


def inputs(seed: int, sequences: int) -> LossInputs:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 20, (40,), generator=generator)
    borders = torch.linspace(0, 40, sequences + 1).int()
    return LossInputs(tokens, borders, torch.rand(sequences, generator=generator), tokens * 7 + seed)


def test_replays_add_up_to_the_gradient_of_single_launches():
    model = Transformer(ModelSpec(hidden=16, cond=8, blocks=1, heads=2, dropout=0.0))
    torch.nn.init.normal_(model.final.output.weight)

    def gradient(given: LossInputs) -> torch.Tensor:
        raw = model(given.tokens, given.cu_seqlens, given.times, max_length=40)
        loss = (raw.sigmoid() * given.noise_keys.sin().unsqueeze(-1)).sum(dtype=torch.float64)
        loss.backward()
        return loss.detach()

    Again.made = 0
    graphs = GradientGraphs(model, gradient, lambda work: Again(model, work))
    for step, parts in enumerate((2, 2, 2, 1, 1)):
        # A new shape comes in the middle of a step, too: what has been added before must stay.
        micro_batches = [inputs(10 * step + n, sequences=4 + step % 3 * n) for n in range(parts)]
        model.zero_grad(set_to_none=True)
        losses = [float(gradient(one)) for one in micro_batches]
        expected = [p.grad for p in model.parameters()]
        model.zero_grad(set_to_none=True)
        assert [float(graphs(one, is_alone=parts == 1)) for one in micro_batches] == losses
        assert all(torch.equal(p.grad, e) for p, e in zip(model.parameters(), expected, strict=True))
    assert Again.made == 3


def test_empty_sequences_behind_the_others_change_no_loss(store):
    spec = tiny_spec(store)
    network = build_network(spec, Ranks(), PRECISIONS["fp32"], CPU)
    for weight in network.model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    network.model.eval()
    batch = DeviceBatch(3, torch.arange(90) % 20, torch.tensor([0, 10, 50, 90], dtype=torch.int32), 40)
    more = rounded_up(batch)
    assert more.sequences == 32
    assert rounded_up(more) is more
    losses = [network.loss(one, step=1, part=(1, 2), time_offset=0.3, noise_seed=5) for one in (batch, more)]
    assert losses[0].item() == pytest.approx(losses[1].item(), rel=1e-6)


def test_graphs_are_refused_where_there_is_no_gpu(store):
    for asked, refused in (("auto", False), (False, False), (True, True)):
        spec = tiny_spec(store, cuda_graphs=asked)
        if refused:
            with pytest.raises(SpecError, match="no GPU"):
                build_network(spec, Ranks(), PRECISIONS["fp32"], CPU)
        else:
            assert not build_network(spec, Ranks(), PRECISIONS["fp32"], CPU).is_replayed
