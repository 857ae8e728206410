"""Noise schedules against their definitions."""

import math

import pytest
import torch

from sedd.diffusion.noise import NOISES, Cosine, Geometric, Loglinear
from tests.diffusion.enumeration import noise_named

T = torch.cat([torch.tensor([0.0, 1e-6, 1e-3, 0.999, 1.0]), torch.linspace(0.01, 0.99, 50)]).double()


@pytest.mark.parametrize("name", NOISES)
def test_rate_is_the_derivative_of_total(name):
    t = T.clone().requires_grad_()
    noise = noise_named(name)
    (slope,) = torch.autograd.grad(noise.total(t).sum(), t)
    torch.testing.assert_close(noise.rate(T), slope, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", NOISES)
def test_noise_grows_and_starts_small(name):
    total = noise_named(name).total(torch.linspace(0, 1, 1001, dtype=torch.float64))
    assert (total.diff() > 0).all()
    assert 0 <= total[0] < 2e-3


@pytest.mark.parametrize("name", NOISES)
def test_single_precision_agrees_with_double(name):
    noise = noise_named(name)
    t = T.float()
    for compute in (noise.total, noise.rate):
        assert compute(t).dtype == torch.float32
        torch.testing.assert_close(compute(t).double(), compute(t.double()), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", NOISES)
def test_noise_never_falls_not_even_by_rounding_at_the_ends(name, dtype):
    t = torch.cat([T, 1 - torch.logspace(-16, -1, 60, dtype=torch.float64)]).to(dtype).sort().values
    noise = noise_named(name)
    assert (noise.rate(t) >= 0).all()
    assert (noise.total(t).diff() >= 0).all()
    assert (noise.total(t) >= 0).all()


def test_schedules_equal_their_formulas():
    for t in (0.0, 0.2, 0.7, 1.0):
        at = torch.tensor(t, dtype=torch.float64)
        assert Loglinear(0.01).total(at).item() == pytest.approx(
            -math.log(1 - 0.99 * t), rel=1e-12, abs=1e-15
        )
        assert Geometric(1e-4, 9.0).total(at).item() == pytest.approx(1e-4 ** (1 - t) * 9.0**t, rel=1e-12)
        cosine = 9.0 + 0.5 * (1e-4 - 9.0) * (1 + math.cos(math.pi * t))
        assert Cosine(1e-4, 9.0).total(at).item() == pytest.approx(cosine, rel=1e-12)
