"""Random numbers: counters and categorical draws."""

import pytest
import scipy.stats
import torch

from sedd.diffusion.draws import counter_noise, draw_change, packed_positions, uniform

F64 = torch.float64
CU = torch.tensor([0, 3, 3, 10], dtype=torch.int32)
SAMPLES = torch.tensor([8, 5, 6])


def test_packed_positions_skip_empty_sequences():
    index, position = packed_positions(CU, 10)
    assert index.tolist() == [0] * 3 + [2] * 7
    assert position.tolist() == [0, 1, 2, 0, 1, 2, 3, 4, 5, 6]


def test_counter_noise_belongs_to_seed_step_sample_and_position_alone():
    whole = counter_noise(1, 2, SAMPLES, CU, 10).uniform(2, F64)
    alone = counter_noise(1, 2, SAMPLES[2:], torch.tensor([0, 7], dtype=torch.int32), 7).uniform(2, F64)
    assert torch.equal(whole[3:], alone)
    longer = counter_noise(1, 2, SAMPLES[2:], torch.tensor([0, 9], dtype=torch.int32), 9).uniform(2, F64)
    assert torch.equal(longer[:7], alone)
    for other in (counter_noise(2, 2, SAMPLES, CU, 10), counter_noise(1, 3, SAMPLES, CU, 10)):
        assert (other.uniform(2, F64) != whole).all()
    source = counter_noise(1, 2, SAMPLES, CU, 10)
    assert (source.stream(1).uniform(2, F64) != source.stream(2).uniform(2, F64)).all()


def _splitmix64(z: int) -> int:
    """The finaliser as published, modulo 2^64."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


@pytest.mark.parametrize(("seed", "step", "sample"), [(0, 1, 0), (2**32 - 1, 10**6, 2**60), (7, 2**40, 3)])
def test_numbers_stay_what_they_are_so_that_old_runs_resume_alike(seed: int, step: int, sample: int):
    golden, key = 0x9E3779B97F4A7C15, 0
    for number in (seed, step):
        key = _splitmix64(_splitmix64((key + golden) % 2**64) ^ number)
    key = _splitmix64(key ^ _splitmix64((sample + golden) % 2**64))
    place = _splitmix64((key + 4 * golden) % 2**64)
    drawn = _splitmix64((place + golden) % 2**64) >> 11
    noise = counter_noise(seed, step, torch.tensor([sample]), torch.tensor([0, 9], dtype=torch.int32), 9)
    assert noise.uniform(1, F64)[4, 0] == drawn * 2.0**-53


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_counter_noise_is_uniform_and_independent(dtype):
    lengths = torch.full((400,), 100)
    cu = torch.cat([torch.zeros(1), lengths.cumsum(0)]).int()
    u = counter_noise(0, 0, torch.arange(400), cu, 40_000).uniform(3, dtype)
    assert u.dtype == dtype
    assert 0 <= u.min() < u.max() < 1
    for column in u.T:
        assert scipy.stats.kstest(column.double().numpy(), "uniform").pvalue > 1e-3
    across = torch.corrcoef(u.double().T)
    assert (across - torch.eye(3)).abs().max() < 0.02
    grid = u[:, 0].double().view(400, 100)
    for a, b in ((grid[:, 1:], grid[:, :-1]), (grid[1:], grid[:-1])):
        assert abs(torch.corrcoef(torch.stack([a.flatten(), b.flatten()]))[0, 1]) < 0.02


def test_uniform_draws_from_a_generator_too():
    u = uniform((5, 2), 3, torch.Generator().manual_seed(0), dtype=F64, device=torch.device("cpu"))
    assert u.shape == (5, 2, 3)


def test_draw_inverts_the_distribution_with_the_own_token_last():
    p = torch.tensor([0.2, 0.5, 0.0, 0.3], dtype=F64)
    for u, token in [(0.0, 0), (0.19, 0), (0.21, 3), (0.49, 3), (0.51, 1), (0.999, 1)]:
        assert draw_change(p, torch.tensor(1), torch.tensor(u, dtype=F64)) == token


def test_rare_residues_are_drawn_at_their_rate():
    rare = 1e-13
    p = torch.tensor([0.5, rare, 0.5 - rare, 0.0], dtype=F64)
    u = 0.5 + rare * torch.tensor([-0.01, 0.01, 0.5, 0.99, 1.01], dtype=F64)
    x = torch.full((5,), 3)
    assert draw_change(p.expand(5, 4), x, u).tolist() == [0, 1, 1, 1, 2]
    # And in numbers: a residue of 1e-5 among two million draws.
    p = torch.tensor([1e-5, 1 - 1e-5, 0.0], dtype=F64).expand(2_000_000, 3)
    u = torch.rand(2_000_000, dtype=F64, generator=torch.Generator().manual_seed(0))
    seen = (draw_change(p, torch.full((2_000_000,), 2), u) == 0).sum().item()
    assert 4 < seen < 40


def test_token_without_probability_is_never_drawn():
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(20_000, 5, dtype=F64, generator=generator) * (
        torch.rand(20_000, 5, generator=generator) < 0.5
    )
    x = torch.randint(0, 5, (20_000,), generator=generator)
    possible = p.sum(-1) > 0
    u = torch.rand(20_000, dtype=F64, generator=generator)
    u[:500], u[500:1000] = 0.0, 1 - 2.0**-53
    drawn = draw_change(p, x, u)
    assert (p.gather(-1, drawn[:, None])[possible] > 0).all()
