"""Muon against its definition: steps along orthogonalised momentum, as large as AdamW's."""

import pytest
import torch

from sedd.model.transformer import Transformer
from sedd.spec.model import ModelSpec
from sedd.training.muon import Muon, block_matrices, orthogonalise

F32 = torch.float32


def optimizer(*weights: torch.nn.Parameter, parts: int = 1, **changes: float) -> Muon:
    other = torch.nn.Parameter(torch.ones(3))
    other.grad = torch.ones(3)
    how = {"lr": 0.1, "weight_decay": 0.0, "betas": (0.9, 0.99)} | changes
    return Muon([(weight, parts) for weight in weights], [{"params": [other], "weight_decay": 0.0}], **how)


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("shape", [(5, 64, 64), (2, 96, 32), (2, 32, 96)])
@pytest.mark.parametrize(("dtype", "slack"), [(F32, 0.0), (torch.bfloat16, 0.05), (torch.float16, 0.05)])
def test_singular_values_become_about_one_and_singular_vectors_stay(
    shape: tuple[int, ...], dtype: torch.dtype, slack: float
) -> None:
    u, _, vh = torch.linalg.svd(drawn(*shape), full_matrices=False)
    # Singular values over two decades: plain gradients would move along a few directions alone.
    given = u * torch.logspace(0, -2, u.shape[-1]) @ vh
    found = orthogonalise(given, dtype)
    assert found.dtype == F32
    inner = u.mT @ found @ vh.mT
    values = inner.diagonal(dim1=-2, dim2=-1)
    assert values.min() > 0.3 - slack
    assert values.max() < 1.25 + slack
    assert values.mean() > 0.7
    assert (inner - torch.diag_embed(values)).abs().max() < 0.02 + slack


def test_zero_gradient_is_no_step() -> None:
    assert (orthogonalise(torch.zeros(1, 4, 8), F32) == 0).all()


@pytest.mark.parametrize("shape", [(64, 64), (256, 64), (64, 256)])
def test_a_step_is_as_large_as_adamws(shape: tuple[int, int]) -> None:
    weight = torch.nn.Parameter(torch.zeros(shape))
    weight.grad = drawn(*shape) * 1e-4
    optimizer(weight).step()
    # 0.2 times the rate, and singular values of 0.7 to 1.2.
    assert 0.1 * 0.2 * 0.7 < float(weight.detach().square().mean().sqrt()) < 0.1 * 0.2 * 1.2
    assert float((weight.detach() * drawn(*shape)).sum()) < 0


def test_weights_decay_apart_from_the_step() -> None:
    weight = torch.nn.Parameter(torch.full((8, 8), 2.0))
    weight.grad = torch.zeros(8, 8)
    optimizer(weight, weight_decay=0.5).step()
    torch.testing.assert_close(weight.detach(), torch.full((8, 8), 1.9))


def test_momentum_is_nesterovs() -> None:
    weight = torch.nn.Parameter(torch.zeros(8, 8))
    one, two = drawn(8, 8), drawn(8, 8, seed=1)
    muon = optimizer(weight)
    for gradient in (one, two):
        before, weight.grad = weight.detach().clone(), gradient
        muon.step()
    momentum = 0.95 * (0.05 * one) + 0.05 * two
    expected = orthogonalise((0.05 * two + 0.95 * momentum)[None], F32)[0]
    torch.testing.assert_close(before - weight.detach(), 0.1 * 0.2 * 8**0.5 * expected)


def test_matrices_that_lie_in_one_are_taken_apart() -> None:
    weight = torch.nn.Parameter(torch.zeros(24, 8))
    gradient = drawn(24, 8)
    weight.grad = gradient * torch.tensor([1.0, 1000.0, 1e-3]).repeat_interleave(8)[:, None]
    optimizer(weight, parts=3).step()
    for moved, own in zip(weight.detach().chunk(3), gradient.chunk(3), strict=True):
        torch.testing.assert_close(
            -moved, 0.1 * 0.2 * 8**0.5 * orthogonalise(own[None], F32)[0], rtol=1e-3, atol=1e-4
        )


def test_a_gradient_that_is_not_finite_changes_nothing() -> None:
    weight = torch.nn.Parameter(drawn(8, 8))
    muon = optimizer(weight, weight_decay=0.1)
    weight.grad = drawn(8, 8)
    muon.step()
    before, state = weight.detach().clone(), [m.clone() for m in muon.state_dict()["momentum"]]
    weight.grad = torch.full((8, 8), torch.inf)
    muon.found_inf = torch.ones(())
    muon.step()
    assert torch.equal(weight.detach(), before)
    assert torch.equal(muon.state_dict()["momentum"][0], state[0])
    muon.found_inf, weight.grad = torch.zeros(()), drawn(8, 8, seed=1)
    muon.step()
    assert not torch.equal(weight.detach(), before)
    assert weight.isfinite().all()


def test_the_blocks_matrices_are_its_and_no_others() -> None:
    model = Transformer(ModelSpec(hidden=16, cond=8, blocks=2, heads=2))
    own = {id(weight) for weight, _ in block_matrices(model)}
    names = {name.split(".", 2)[-1] for name, weight in model.named_parameters() if id(weight) in own}
    assert names == {"qkv.weight", "out.weight", "up.weight", "down.weight"}
    assert len(own) == 8
