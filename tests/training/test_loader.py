"""Which batches a step sees does not depend on the number of ranks."""

from pathlib import Path

import pytest
import torch

from sedd.data.store import TokenStore
from sedd.training.distributed import Ranks
from sedd.training.loader import training_feed
from tests.tiny import tiny_spec


def steps(store: Path, ranks: int, first_step: int) -> list[list[tuple[int, list[int], list[int]]]]:
    """Of each step the micro-batches of all ranks, by their number: number, tokens, borders."""
    spec = tiny_spec(store, steps=6, residues_per_gpu=64)
    seen: list[list[tuple[int, list[int], list[int]]]] = [[] for _ in range(first_step, 7)]
    for rank in range(ranks):
        own = Ranks(rank=rank, size=ranks, local_rank=rank)
        opened = [TokenStore.open(store)]
        for step, batches in enumerate(training_feed(spec, opened, own, torch.device("cpu"), first_step)):
            seen[step] += [(b.number, b.tokens.tolist(), b.cu_seqlens.tolist()) for b in batches]
    return [sorted(step) for step in seen]


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_a_step_sees_the_same_batches_on_any_number_of_ranks(store: Path, ranks: int) -> None:
    alone = steps(store, 1, first_step=1)
    assert [len(step) for step in alone] == [8] * 6
    assert steps(store, ranks, first_step=1) == alone
    assert steps(store, ranks, first_step=4) == alone[3:]
