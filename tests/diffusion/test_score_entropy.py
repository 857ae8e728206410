"""The loss against its definition, its zero and its minimiser."""

import pytest
import torch

from sedd.diffusion.graph import GRAPHS
from sedd.diffusion.score_entropy import score_entropy
from tests.diffusion.enumeration import SIGMAS, World, expm, small_graph

F64 = torch.float64


@pytest.fixture(params=GRAPHS)
def graph(request):
    return small_graph(request.param)


def reachable(graph):
    """(x_0, x_t) pairs with probability above zero."""
    clean = graph.clean_tokens(torch.device("cpu")).nonzero()[:, 0]
    p = expm(graph, 1.0)
    return [(int(a), b) for a in clean for b in range(graph.n) if p[a, b] > 0]


def by_definition(graph, log_score, x_t, x_0, sigma_bar):
    """sum over y != x of Q(y, x) [s - r ln s + K(r)], K(r) = r (ln r - 1), in plain arithmetic."""
    p, q, s = expm(graph, sigma_bar), graph.rates(), log_score.exp()
    total = 0.0
    for y in range(graph.n):
        if y != x_t and q[y, x_t] > 0:
            r = p[x_0, y] / p[x_0, x_t]
            k = r * (r.log() - 1) if r > 0 else 0.0
            total += q[y, x_t] * (s[y] - r * log_score[y] + k)
    return float(total)


@pytest.mark.parametrize("sigma_bar", [1e-3, 0.1, 1.0, 5.0, 20.0])
def test_loss_is_its_definition(graph, sigma_bar):
    generator = torch.Generator().manual_seed(0)
    for x_0, x_t in reachable(graph):
        log_score = torch.randn(graph.n, dtype=F64, generator=generator)
        level = torch.tensor(sigma_bar, dtype=F64)
        given = score_entropy(log_score, torch.tensor(x_t), torch.tensor(x_0), level, graph)
        assert given.item() == pytest.approx(
            by_definition(graph, log_score, x_t, x_0, sigma_bar), rel=1e-9, abs=1e-9
        )


@pytest.mark.parametrize("sigma_bar", SIGMAS)
def test_loss_is_zero_at_the_true_ratio_and_positive_elsewhere(graph, sigma_bar):
    p = expm(graph, sigma_bar)
    generator = torch.Generator().manual_seed(0)
    for x_0, x_t in reachable(graph):
        log_ratio = (p[x_0] / p[x_0, x_t]).log().clamp_min(-1e3)
        level = torch.tensor(sigma_bar, dtype=F64)
        zero = score_entropy(log_ratio, torch.tensor(x_t), torch.tensor(x_0), level, graph)
        scale = max(1.0, float(p[x_0].max() / p[x_0, x_t]))
        assert abs(zero.item()) < 1e-12 * scale
        off = log_ratio + torch.randn(graph.n, dtype=F64, generator=generator)
        loss = score_entropy(off, torch.tensor(x_t), torch.tensor(x_0), level, graph)
        assert loss.item() > 0 or (graph.rates()[:, x_t].scatter(0, torch.tensor(x_t), 0.0) == 0).all()


def test_without_noise_the_loss_is_its_limit_and_has_a_gradient(graph):
    """At sigma_bar = 0 every ratio is 0: what is left of the definition is sum Q(y, x) s_y."""
    clean, zero = graph.clean_tokens(torch.device("cpu")).nonzero()[:, 0], torch.zeros((), dtype=F64)
    log_score = torch.randn(len(clean), graph.n, dtype=F64, generator=torch.Generator().manual_seed(6))
    log_score.requires_grad_()
    loss = score_entropy(log_score, clean, clean, zero, graph)
    into = graph.rates().T[clean].scatter(1, clean[:, None], 0.0)
    torch.testing.assert_close(loss, (into * log_score.exp()).sum(1), rtol=1e-12, atol=0)
    loss.sum().backward()
    torch.testing.assert_close(log_score.grad, into * log_score.detach().exp(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("sigma_bar", [1e-3, 0.3, 2.0, 8.0])
def test_minimiser_on_a_joint_distribution_is_its_score(graph, sigma_bar):
    world = World(graph, 2)
    level, p = torch.tensor(sigma_bar, dtype=F64), expm(graph, sigma_bar)
    clean = world.states[world.p_0.reshape(-1) > 0]
    weight = world.p_0.reshape(-1)[world.p_0.reshape(-1) > 0]
    table = world.log_score_table(sigma_bar)
    noisy = world.marginal(sigma_bar).reshape(-1) > 0
    # Scores of impossible changes (ratio 0) have their minimum at -infinity: any finite value has a slope.
    finite = table.isfinite()
    log_score = torch.where(finite, table, -60.0).requires_grad_()

    chance = p[clean[:, None, :], world.states[None, :, :]].prod(-1) * weight[:, None]
    shape = chance.shape

    def expected_loss(score):
        x_t, x_0 = world.states.expand(*shape, 2), clean[:, None, :].expand(*shape, 2)
        each = score_entropy(score.expand(*shape, 2, world.n), x_t, x_0, level, graph)
        return (chance * torch.where(chance > 0, each.sum(-1), 0.0)).sum()

    best = expected_loss(log_score)
    (slope,) = torch.autograd.grad(best, log_score)
    flow = world.marginal(sigma_bar).reshape(-1)[noisy].max()
    assert slope[finite].abs().max() < 1e-9 * flow * max(1.0, 1 / sigma_bar)
    generator = torch.Generator().manual_seed(1)
    for _ in range(3):
        other = log_score.detach() + 0.1 * torch.randn(table.shape, dtype=F64, generator=generator)
        assert expected_loss(other) > best


def test_single_precision_agrees_with_double_at_every_noise_level(graph):
    generator = torch.Generator().manual_seed(4)
    for sigma_bar in (*SIGMAS, 1e-5, 1e-2, 10.0):
        p = expm(graph, sigma_bar)
        for x_0, x_t in reachable(graph):
            ratio = (p[x_0] / p[x_0, x_t]).log().clamp_min(-30)
            log_score = (ratio + torch.randn(graph.n, dtype=F64, generator=generator)).float()
            args = (torch.tensor(x_t), torch.tensor(x_0))
            exact = score_entropy(log_score.double(), *args, torch.tensor(sigma_bar, dtype=F64), graph)
            single = score_entropy(log_score, *args, torch.tensor(sigma_bar), graph)
            torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-6)


def test_gradient_is_finite_everywhere(graph):
    generator = torch.Generator().manual_seed(5)
    x_0, x_t = (torch.tensor(v) for v in zip(*reachable(graph), strict=True))
    for sigma_bar in SIGMAS:
        log_score = 5 * torch.randn(len(x_0), graph.n, generator=generator)
        log_score.requires_grad_()
        score_entropy(log_score, x_t, x_0, torch.tensor(sigma_bar), graph).sum().backward()
        assert log_score.grad.isfinite().all()
