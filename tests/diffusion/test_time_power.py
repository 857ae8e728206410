"""The training loss at times U^p against the integral that it estimates, with every noised state written down.

Lou et al. 2024 (arXiv 2310.16834): the loss of x_0 is the integral over t of the expectation over x_t of
sigma'(t) sum_y Q(y, x_t) (s_y - r_y ln s_y + r_y (ln r_y - 1)), r_y = p(y | x_0) / p(x_t | x_0). A change of the
variable, t = U^p on the interval, turns dt into p U^(p - 1) dU.
"""

import functools
import itertools
import math

import pytest
import scipy.integrate
import torch

from sedd.diffusion.draws import counter_noise
from sedd.diffusion.graph import GRAPHS
from sedd.diffusion.noise import NOISES
from sedd.diffusion.objective import Objective
from sedd.diffusion.times import T_MIN, diffusion_times
from tests.diffusion.enumeration import expm, noise_named, small_graph

F64 = torch.float64
CLEAN = (0, 2)
"""x_0, of three tokens of which the last is the mask where there is one: none is masked."""
N = 4
_DRAW = torch.Generator().manual_seed(5)
OWN, OTHER = (torch.randn(N, N, dtype=F64, generator=_DRAW) for _ in range(2))


def raw(x):
    """A network that sees both tokens: [..., 2] -> [..., 2, N]."""
    return 0.5 * OWN[x] + 0.7 * OTHER[x.flip(-1)]


def log_score(graph, x, sigma_bar):
    """What the raw output of parameterization `score` means."""
    scale = math.log(math.expm1(sigma_bar)) + math.log(N - 1) if graph.settles else 0.0
    return raw(x) - scale


def loss_at(graph, noise, t):
    """Expected loss [2] of the residues of x_0 at a time, over all states."""
    sigma_bar = float(noise.total(torch.tensor(t, dtype=F64)))
    step = 1e-6 * t
    ends = (float(noise.total(torch.tensor(t + way * step, dtype=F64))) for way in (1, -1))
    rate = (next(ends) - next(ends)) / (2 * step)
    chance, jumps = expm(graph, sigma_bar), graph.rates()
    found = torch.zeros(2, dtype=F64)
    for state in itertools.product(range(N), repeat=2):
        weight = math.prod(float(chance[clean, x]) for clean, x in zip(CLEAN, state, strict=True))
        if weight == 0:
            continue
        s = log_score(graph, torch.tensor(state), sigma_bar)
        for place, (clean, x) in enumerate(zip(CLEAN, state, strict=True)):
            for y in set(range(N)) - {x}:
                r = float(chance[clean, y] / chance[clean, x])
                entropy = s[place, y].exp() - r * s[place, y] + (r * (math.log(r) - 1) if r else 0.0)
                found[place] += weight * rate * jumps[y, x] * entropy
    return found


@functools.cache
def integral(graph, noise):
    """Of `loss_at` over t from T_MIN to 1, of the graph and the schedule of these names: [2]."""
    tiny, schedule = small_graph(graph, N), noise_named(noise)

    def of(place):
        return lambda t: float(loss_at(tiny, schedule, t)[place])

    each = [scipy.integrate.quad(of(place), T_MIN, 1, epsrel=1e-4, limit=80)[0] for place in range(2)]
    return torch.tensor(each, dtype=F64)


def drawn(graph, noise, power, u, key):
    """Mean loss [2] over sequences with these U, its standard error, and the noise levels that were asked."""
    objective, levels, copies = Objective(graph, noise, "score", time_power=power), [], len(u)

    def network(x, sigma_bar):
        levels.append(sigma_bar)
        return raw(x.view(-1, 2)).view(-1, N)

    borders = torch.arange(copies + 1, dtype=torch.int32) * 2
    noise_keys = counter_noise(11, key, torch.arange(copies), borders, 2 * copies)
    loss = objective.per_residue(
        network, torch.tensor(CLEAN).repeat(copies), borders, diffusion_times(u), generator=noise_keys
    )
    each = loss.view(copies, 2)
    return each.mean(0), each.std(0) / copies**0.5, torch.cat(levels).unique()


@pytest.mark.parametrize("power", [1.0, 2.0, 3.0])
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("graph", GRAPHS)
def test_a_loss_is_that_of_its_time_times_the_slope_of_the_times(graph, noise, power):
    tiny, schedule = small_graph(graph, N), noise_named(noise)
    for key, u in enumerate((0.15, 0.5, 0.9)):
        mean, error, levels = drawn(tiny, schedule, power, torch.full((8000,), u, dtype=F64), key)
        t = T_MIN + (1 - T_MIN) * u**power
        assert levels.tolist() == pytest.approx([float(schedule.total(torch.tensor(t, dtype=F64)))])
        expected = power * u ** (power - 1) * loss_at(tiny, schedule, t)
        assert ((mean - expected).abs() < 4.5 * error + 1e-3 * expected).all()


@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("graph", GRAPHS)
def test_over_all_u_the_mean_loss_is_the_integral_over_all_times(graph, noise, power):
    tiny, schedule = small_graph(graph, N), noise_named(noise)
    u = ((torch.arange(20_000, dtype=F64) + 0.5) / 20_000)[torch.randperm(20_000, generator=_DRAW)]
    mean, error, _ = drawn(tiny, schedule, power, u, 0)
    # An average: times are drawn from that interval alone.
    expected = integral(graph, noise) / (1 - T_MIN)
    assert ((mean - expected).abs() < 4 * error + 1e-3 * expected).all()
