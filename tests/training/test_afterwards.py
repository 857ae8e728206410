"""Gradients that ranks exchange after their replays: those of DDP, but for rounding, and the same on every rank.

A recorder stands in for CUDA's, as in test_graphs.py: it does the work again.
"""

import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from sedd.data.store import TokenStore
from sedd.training import graphs, network, update
from sedd.training.distributed import Ranks, connected
from sedd.training.loader import training_feed
from sedd.training.precision import PRECISIONS
from sedd.training.train_state import fresh_state
from tests.tiny import tiny_spec
from tests.training.test_graphs import Again

CPU = torch.device("cpu")


def gradients_of_rank(rank: int, port: int, folder: Path, store: Path, residues_per_gpu: int) -> None:
    """Write the gradient of a first and of a second step, by DDP and exchanged afterwards."""
    import os

    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    found = {}
    with connected(Ranks(rank=rank, size=2, local_rank=rank), CPU):
        for replayed in (False, True):
            spec = tiny_spec(store, residues_per_gpu=residues_per_gpu)
            spec = spec.model_copy(update={"model": spec.model.model_copy(update={"dropout": 0.0})})
            network.uses_graphs = lambda *_, replayed=replayed, **__: replayed  # type: ignore[assignment]
            found[replayed] = two_steps(spec, Ranks(rank=rank, size=2, local_rank=rank))
    torch.save(found, folder / f"{rank}.pt")


def two_steps(spec, ranks: Ranks) -> list[list[torch.Tensor]]:
    built = network.build_network(spec, ranks, PRECISIONS["fp32"], CPU)
    graphs.CudaRecorder = lambda: lambda work: Again(built.model, work)  # type: ignore[assignment,misc]
    for number, weight in enumerate(built.model.parameters()):
        torch.nn.init.normal_(weight, std=0.1, generator=torch.Generator().manual_seed(number))
    state = fresh_state(built.model, spec.training, PRECISIONS["fp32"])
    feed = training_feed(spec, [TokenStore.open(spec.data.store)], ranks, CPU, 1)
    steps = update.Update(spec, built, ranks)
    found = []
    for step in (1, 2):
        steps.accumulate_gradient(state, next(feed), step)
        found.append([p.grad.clone() for p in built.model.parameters()])  # type: ignore[union-attr]
        state.drop_gradients()
    feed.close()
    return found


@pytest.mark.parametrize("residues_per_gpu", [256, 64])  # one micro-batch a rank and step, and four
def test_they_are_those_of_ddp_on_every_rank(store: Path, tmp_path: Path, residues_per_gpu: int) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(gradients_of_rank, (port, tmp_path, store, residues_per_gpu), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for by_ddp, after, elsewhere in zip(first[False], first[True], second[True], strict=True):
        assert any(gradient.abs().max() > 1e-3 for gradient in by_ddp)
        for expected, gradient, other in zip(by_ddp, after, elsewhere, strict=True):
            torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)
            assert torch.equal(gradient, other)
