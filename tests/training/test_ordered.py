"""The ordered sum of gradients: the same bits on any number of ranks, however often that changes."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from sedd.rundir.layout import RunDir
from sedd.spec.experiment import Experiment
from sedd.training.checkpoint_file import newest_whole, read_checkpoint
from sedd.training.distributed import Ranks
from sedd.training.reduction.ordered import OrderedSum, buffers_needed
from tests.tiny import tiny_spec, train_process
from tests.training.conftest import make_run  # noqa: F401 # a fixture
from tests.training.test_resume import (
    KILLED,
    STOPPED,
    assert_close_weights,
    assert_same_bits,
    assert_same_end,
)

MakeRun = Callable[[Experiment], RunDir]


def ordered(store: Path, **training: object) -> Experiment:
    """Twelve micro-batches a step: three times four."""
    sizes = {"residues_per_step": 1536, "residues_per_gpu": 128, "steps": 16}
    return tiny_spec(store, **({"reduction": "ordered"} | sizes | training))


@pytest.fixture(scope="module")
def alone(store: Path, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """An undisturbed run of one rank."""
    from sedd.rundir.layout import create_run
    from sedd.spec.load import dump_resolved

    run = create_run(tmp_path_factory.mktemp("alone"), "tiny", "alone", dump_resolved(ordered(store)))
    assert train_process(run) == 0
    return run


def by_definition(leaves: list[Tensor]) -> Tensor:
    """Sums modulo the largest power of two that divides the count, one after the other; then in pairs c, c + s."""
    pairs = 1
    while len(leaves) % (2 * pairs) == 0:
        pairs *= 2
    sums = []
    for c in range(pairs):
        total = torch.zeros_like(leaves[0])
        for gradient in leaves[c::pairs]:
            total = total + gradient
        sums.append(total)
    while len(sums) > 1:
        half = len(sums) // 2
        sums = [sums[c] + sums[c + half] for c in range(half)]
    return sums[0]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 6, 12, 16])
def test_one_rank_adds_along_the_tree(count: int) -> None:
    torch.manual_seed(count)
    parameters = [nn.Parameter(torch.zeros(7, 5)), nn.Parameter(torch.zeros(3))]
    gradients = [[torch.randn_like(p) * 10.0 ** (n % 5) for p in parameters] for n in range(count)]
    for in_place in (True, False):  # autograd adds in place; a CUDA graph brings its own tensors
        total = OrderedSum(parameters, count, Ranks(), in_place=in_place)
        for _ in range(2):
            total(lambda n, in_place=in_place: add(parameters, gradients[n], in_place))
            for place, parameter in enumerate(parameters):
                expected = by_definition([gradient[place] for gradient in gradients])
                assert parameter.grad is not None
                assert torch.equal(parameter.grad, expected)
        assert len(total._free) == buffers_needed(count, 1)


def add(parameters: list[nn.Parameter], gradients: list[Tensor], in_place: bool) -> None:
    begins = parameters[0].grad is None
    for parameter, gradient in zip(parameters, gradients, strict=True):
        if begins:
            assert not in_place
            parameter.grad = gradient.clone()
        elif in_place:
            parameter.grad += gradient
        else:
            parameter.grad = parameter.grad + gradient


def test_two_ranks_train_to_the_bits_of_one(
    store: Path,
    make_run: MakeRun,  # noqa: F811
    alone: RunDir,
) -> None:
    """Weights, moments, EMA, and every row: loss, gradient norm, validation."""
    run = make_run(ordered(store))
    assert train_process(run, ranks=2) == 0
    assert_same_end(run, alone)


def test_a_run_whose_ranks_change_between_kills_is_an_undisturbed_one(
    store: Path,
    make_run: MakeRun,  # noqa: F811
    alone: RunDir,
) -> None:
    """With spread moments, which load on another number of ranks; of one rank they are not spread."""
    run = make_run(ordered(store, shard="optimizer"))
    assert train_process(run, end="kill:6") == KILLED
    assert train_process(run, attempt=2, ranks=2, end="stop:9") == STOPPED
    assert train_process(run, attempt=3, ranks=4) == 0
    ours, theirs = (read_checkpoint(newest_whole(each.checkpoints)) for each in (run, alone))
    for part in ("step", "model", "ema", "scaler", "loss_sum"):
        assert_same_bits(ours[part], theirs[part], part)
    assert_same_bits(ours["optimizer"]["state"], theirs["optimizer"]["state"])
    assert run.metrics.read_bytes() == alone.metrics.read_bytes()


def test_muon_and_recomputed_activations_too(store: Path, make_run: MakeRun) -> None:  # noqa: F811
    spec = ordered(store, optimizer="muon", activation_checkpointing=True, steps=8)
    one, two = make_run(spec), make_run(spec)
    assert train_process(one) == 0
    assert train_process(two, ranks=2) == 0
    assert_same_end(two, one)


def test_it_is_the_same_gradient_but_for_rounding(
    store: Path,
    make_run: MakeRun,  # noqa: F811
    alone: RunDir,
) -> None:
    run = make_run(ordered(store, reduction="all_reduce"))
    assert train_process(run) == 0
    assert_close_weights(run, alone)


def test_ranks_that_do_not_pair_are_refused(store: Path) -> None:
    with pytest.raises(ValidationError, match="3 processes are no power of two"):
        Experiment.model_validate(
            ordered(store).model_dump(mode="json")
            | {"resources": {"gpus_per_node": 0, "processes_per_node": 3}}
        )
