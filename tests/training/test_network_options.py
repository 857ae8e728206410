"""Dropped branches in training: functions of counters, absent from every bound; and all options through a resume."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sedd.rundir.layout import RunDir
from sedd.spec.experiment import Experiment
from sedd.training.distributed import Ranks
from sedd.training.graphs import GradientGraphs
from sedd.training.loader import DeviceBatch
from sedd.training.network import LossInputs, Network, build_network
from sedd.training.precision import PRECISIONS
from tests.tiny import tiny_spec, train_process
from tests.training.test_graphs import Again
from tests.training.test_resume import STOPPED, assert_same_end

CPU = torch.device("cpu")
HOW = {"part": (0, 1), "time_offset": 0.3, "noise_seed": 5}
OPTIONS = {"query_key_norm": True, "value_residual": True, "layer_dropout": 0.5, "blocks": 3}


def with_options(spec: Experiment, **options: object) -> Experiment:
    return spec.model_copy(update={"model": spec.model.model_copy(update=OPTIONS | options)})


def network(store: Path, **options: object) -> Network:
    made = build_network(with_options(tiny_spec(store), **options), Ranks(), PRECISIONS["fp32"], CPU)
    torch.manual_seed(0)
    for weight in made.model.parameters():
        torch.nn.init.normal_(weight, std=0.1)
    made.model.dropout = 0.0
    return made


def batch(lengths: list[int]) -> DeviceBatch:
    borders = torch.tensor([0, *lengths]).cumsum(0).int()
    return DeviceBatch(0, torch.arange(int(borders[-1])) % 20 + 4, borders, max(lengths))


def test_what_is_dropped_is_a_function_of_seed_and_sequence(store: Path) -> None:
    made = network(store)
    few, many = (made.loss_inputs(batch(each), **HOW).branch_factors for each in ([9, 5], [9, 5, 7] * 50))
    assert torch.equal(few, many[:2])
    other = made.loss_inputs(batch([9, 5, 7] * 50), **HOW | {"noise_seed": 6}).branch_factors
    assert not torch.equal(other, many)
    assert (many == 0).float().mean(0).tolist() == pytest.approx(
        [rate for block in (1, 2, 3) for rate in [0.5 * block / 3] * 2], abs=0.13
    )
    assert network(store, layer_dropout=0.0).loss_inputs(batch([9, 5]), **HOW).branch_factors.numel() == 0


def test_a_training_loss_drops_branches_and_a_bound_never_does(store: Path) -> None:
    dropping, whole = network(store), network(store, layer_dropout=0.0)
    both = dropping, whole
    losses = [made.loss(batch([30, 34]), step=1, **HOW).item() for made in (*both, dropping)]
    assert losses[0] == losses[2] != losses[1]
    bounds = [made.bound(batch([30, 34]), **HOW) for made in both]
    assert torch.equal(*bounds)


def test_a_replay_drops_the_branches_of_the_micro_batch_at_hand(store: Path) -> None:
    """By a recorder that does the work again on what lies in the same places."""
    made = network(store)

    def gradient(inputs: LossInputs) -> torch.Tensor:
        loss = made.loss_of(inputs, max_length=34, step=0)
        loss.backward()
        return loss.detach()

    graphs = GradientGraphs(made.model, gradient, lambda work: Again(made.model, work))
    for seed in (5, 6, 7):
        inputs = made.loss_inputs(batch([30, 34]), **HOW | {"noise_seed": seed})
        made.model.zero_grad(set_to_none=True)
        expected = gradient(inputs), [weight.grad for weight in made.model.parameters()]
        made.model.zero_grad(set_to_none=True)
        assert graphs(inputs, is_alone=True) == expected[0]
        for weight, there in zip(made.model.parameters(), expected[1], strict=True):
            assert torch.equal(weight.grad, there)


@pytest.mark.parametrize(
    ("ranks", "training"), [(1, {}), (2, {"shard": "full", "activation_checkpointing": True})]
)
def test_a_stopped_run_with_every_option_ends_as_an_undisturbed_one(
    store: Path, make_run: Callable[[Experiment], RunDir], ranks: int, training: dict[str, object]
) -> None:
    whole, stopped = (make_run(with_options(tiny_spec(store, steps=10, **training))) for _ in range(2))
    assert train_process(whole, ranks=ranks) == 0
    assert train_process(stopped, ranks=ranks, end="stop:6") == STOPPED
    assert train_process(stopped, ranks=ranks, attempt=2) == 0
    assert_same_end(stopped, whole)
