"""Calls padded to few shapes and replayed: nothing of the padding reaches a result, and no result changes a bit."""

import math
import random
from collections.abc import Callable

import pytest
import torch

from sedd.model.cuda_graph import CudaRecorder
from sedd.model.packing import sequence_index
from sedd.model.padded_calls import PaddedCalls, shape_of
from sedd.model.transformer import Transformer
from sedd.spec.conditions import ConditionsSpec
from sedd.spec.model import ModelSpec
from tests.model.test_cuda_graph import GPU, Again

LABELS = ConditionsSpec.model_validate({"fields": {"ec": {"kind": "category", "values": 3}}})


def network(device: str = "cpu", hidden: int = 32, conditions: ConditionsSpec | None = None) -> Transformer:
    spec = ModelSpec(hidden=hidden, cond=16, blocks=2, heads=2, dropout=0.0, conditions=conditions)
    torch.manual_seed(0)
    model = Transformer(spec)
    for weight in model.parameters():
        torch.nn.init.normal_(weight, std=0.2)
    return model.to(device).eval().requires_grad_(False)


def batch(
    lengths: list[int], seed: int, device: str = "cpu"
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(0, 33, (sum(lengths),), generator=generator)
    borders = torch.tensor([0, *lengths]).cumsum(0).int()
    return tokens.to(device), borders.to(device), torch.rand(len(lengths), generator=generator).to(device)


def many_lengths() -> list[list[int]]:
    """Of batches of about one shape, which no two of them share, and of another in between."""
    source = random.Random(1)
    lengths = [[source.randint(39, 40) for _ in range(source.randint(23, 24))] for _ in range(6)]
    return [each for same in lengths for each in (same, [7, 5])]


@pytest.mark.parametrize("device", ["cpu", GPU])
@pytest.mark.parametrize("conditions", [None, LABELS])
def test_replays_have_the_bits_of_single_launches(device: str, conditions: ConditionsSpec | None):
    model = network(device, hidden=64, conditions=conditions)

    def call(*values: torch.Tensor, max_length: int) -> torch.Tensor:
        with torch.autocast("cuda", torch.float16, enabled=device == "cuda"):
            labels = {"labels": values[3]} if conditions else {}
            return model(*values[:3], max_length=max_length, **labels).float()

    launched = PaddedCalls(call, record=None)
    replayed = PaddedCalls(call, CudaRecorder if device == "cuda" else lambda: Again)
    results = []
    for seed, lengths in enumerate(many_lengths()):
        values = batch(lengths, seed, device)
        if conditions:
            values = (*values, torch.arange(len(lengths), device=device).fmod(4.0).sub(1.0).unsqueeze(1))
        alone, again = (calls(*values, max_length=max(lengths)) for calls in (launched, replayed))
        assert torch.equal(alone, again)
        results.append((alone, again))
    assert len(replayed.recorded) == 2, "shapes that recur are recorded, once"
    assert not launched.recorded
    assert all(torch.equal(*both) for both in results), "a result that was written to by a later call"


def test_a_padded_call_answers_as_the_call_itself():
    model = network().double()
    for seed, lengths in enumerate([[5], [1, 1, 1], [17, 30, 4, 9] * 9, [64] * 16, [63, 2], [0, 8, 0]]):
        tokens, borders, sigma_bar = batch(lengths, seed)
        values = tokens, borders, sigma_bar.double()
        padded = PaddedCalls(model, record=None)(*values, max_length=max(lengths))
        torch.testing.assert_close(padded, model(*values, max_length=max(lengths)), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_padding_is_sequences_of_legal_lengths_behind_the_others(seed: int):
    source = random.Random(seed)
    lengths = [source.randint(0, source.choice([3, 40, 700])) for _ in range(source.randint(1, 60))] + [1]
    asked = []

    def call(tokens, cu_seqlens, sigma_bar, labels, *, max_length):
        asked.append((tokens, cu_seqlens, sigma_bar, labels, max_length))
        return tokens.unsqueeze(1).double()

    tokens, borders, sigma_bar = batch(lengths, seed)
    labels = torch.zeros(len(lengths), 2)
    found = PaddedCalls(call, record=None)(tokens, borders, sigma_bar, labels, max_length=max(lengths))
    ((given, cu_seqlens, levels, told, longest),) = asked
    count = len(lengths)
    assert torch.equal(found.squeeze(1), tokens.double())
    assert torch.equal(cu_seqlens[: count + 1], borders)
    assert torch.equal(given[: len(tokens)], tokens)
    assert cu_seqlens.dtype == torch.int32
    assert cu_seqlens[-1] == len(given), "every token belongs to a sequence"
    filling = cu_seqlens.diff()[count:]
    assert ((filling >= 0) & (filling <= longest)).all()
    assert max(lengths) <= longest
    assert (sequence_index(cu_seqlens, len(given))[len(tokens) :] >= count).all()
    assert len(levels) == len(told) == len(cu_seqlens) - 1
    assert levels.isfinite().all()
    assert told[count:].isnan().all()
    assert len(given) <= max(1.125 * len(tokens), 1)


def test_batches_that_fill_a_card_share_few_shapes():
    """Sorted proteins in batches of 65,536 residues, as `sedd evaluate` packs them."""
    source, shapes = random.Random(0), set()
    for _ in range(2000):
        mean = math.exp(source.uniform(math.log(30), math.log(1024)))
        count = int(65536 / mean)
        shapes.add(shape_of(65536 - source.randint(0, int(mean)), count, int(mean * 1.02) + 1))
    assert {shape.residues for shape in shapes} == {65536}
    assert len(shapes) < 20
    with_more = [shape_of(residues, 60, 100) for residues in range(1, 3000)]
    assert [shape.residues for shape in with_more] == sorted(shape.residues for shape in with_more)


def test_no_more_than_so_many_shapes_are_recorded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("sedd.model.padded_calls._GRAPHS", 2)
    made: list[Callable[[], None]] = []

    def record(work: Callable[[], None]) -> Again:
        made.append(work)
        return Again(work)

    recorders = iter([record])  # one, so that all graphs are in its memory
    calls = PaddedCalls(lambda tokens, *_, max_length: tokens.unsqueeze(1) * 2.0, lambda: next(recorders))
    for _ in range(5):
        for length in (20, 40, 80, 160):
            tokens, borders, sigma_bar = batch([length], 0)
            assert torch.equal(
                calls(tokens, borders, sigma_bar, max_length=length), tokens.unsqueeze(1) * 2.0
            )
    assert len(made) == len(calls.recorded) == 2
