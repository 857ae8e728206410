"""Every graph against matrix exponentials, Bayes' rule and time reversal; a new graph is covered by its entry."""

import math

import pytest
import torch

from sedd.diffusion.graph import GRAPHS
from tests.diffusion.enumeration import SIGMAS, World, chi_square_p, expm, small_graph

F64 = torch.float64


@pytest.fixture(params=GRAPHS)
def graph(request):
    return small_graph(request.param)


@pytest.mark.parametrize("n", [2, 5, 33])
@pytest.mark.parametrize("name", GRAPHS)
def test_rates_generate_probabilities(name, n):
    q = small_graph(name, n).rates()
    assert q.sum(1).abs().max() < 1e-14
    assert (q - q.diag().diag() >= 0).all()


@pytest.mark.parametrize("sigma_bar", SIGMAS)
@pytest.mark.parametrize("n", [2, 4, 33])
@pytest.mark.parametrize("name", GRAPHS)
def test_transition_is_the_matrix_exponential(name, n, sigma_bar):
    graph = small_graph(name, n)
    p = graph.log_transition(torch.arange(n), torch.tensor(sigma_bar, dtype=F64)).exp()
    torch.testing.assert_close(p, expm(graph, sigma_bar), rtol=1e-9, atol=1e-14)


def test_transitions_compose(graph):
    x = torch.arange(graph.n)
    for a, b in [(1e-6, 2e-6), (0.3, 1.1), (4.0, 16.0)]:
        first, then, both = (graph.log_transition(x, torch.tensor(s, dtype=F64)).exp() for s in (a, b, a + b))
        torch.testing.assert_close(first @ then, both, rtol=1e-9, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_corruption_follows_the_transition(graph, dtype):
    generator = torch.Generator().manual_seed(1)
    for sigma_bar in (0.05, 0.8, 6.0):
        for origin in graph.clean_tokens(torch.device("cpu")).nonzero()[:2, 0]:
            x = origin.expand(40_000)
            drawn = graph.sample_transition(x, torch.tensor(sigma_bar, dtype=dtype), generator)
            counts = drawn.bincount(minlength=graph.n)
            assert chi_square_p(counts, expm(graph, sigma_bar)[origin]) > 1e-4


def test_prior_is_where_the_noise_leads(graph):
    drawn = graph.sample_prior((40_000,), torch.Generator().manual_seed(2), torch.device("cpu"))
    limit = expm(graph, 200.0)[0]
    assert chi_square_p(drawn.bincount(minlength=graph.n), limit) > 1e-4


def test_prior_divergence_is_that_of_the_distributions(graph):
    limit = expm(graph, 200.0)[0]
    for sigma_bar in SIGMAS[1:]:
        p = graph.log_transition(torch.tensor(0), torch.tensor(sigma_bar, dtype=F64)).exp()
        expected = (p * (p / limit).log()).sum() if (limit > 1e-30).all() else torch.zeros((), dtype=F64)
        given = graph.prior_divergence(torch.tensor(sigma_bar, dtype=F64))
        torch.testing.assert_close(given, expected, rtol=1e-9, atol=1e-13)


@pytest.mark.parametrize("sigma_bar", SIGMAS)
def test_reverse_rates_reverse_time(graph, sigma_bar):
    world = World(graph, 1)
    p, q = world.marginal(sigma_bar), graph.rates()
    rates = graph.reverse_rates(world.log_score_table(sigma_bar)[:, 0], torch.arange(graph.n))
    assert rates.diagonal().abs().max() == 0
    # The flow x -> y back in time is the flow y -> x forth in time.
    flow = (p[:, None] * q).T
    torch.testing.assert_close(p[:, None] * rates, flow - flow.diag().diag(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("sigma_bar", SIGMAS)
def test_analytic_step_is_the_posterior_of_one_token(graph, sigma_bar):
    world = World(graph, 1)
    x = torch.arange(graph.n)
    log_score = world.log_score_table(sigma_bar)[:, 0]
    for share in (1e-3, 0.5, 1.0):
        step = share * sigma_bar
        before = world.marginal(sigma_bar - step)
        exact = before[None, :] * expm(graph, step).T / world.marginal(sigma_bar)[:, None]
        given = graph.posterior(
            log_score, x, torch.tensor(sigma_bar, dtype=F64), torch.tensor(step, dtype=F64)
        )
        possible = world.marginal(sigma_bar) > 0
        # The scores near 1 of a far step hold what was before in their last digits.
        tolerance = max(1e-9, 1e-15 * math.exp(step))
        torch.testing.assert_close(given[possible], exact[possible], rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("sigma_bar", SIGMAS)
def test_score_of_the_true_mean_is_the_true_score(graph, sigma_bar):
    world = World(graph, 2)
    table = world.log_score_table(sigma_bar)
    # p(x_0 at the first place, x_t at the second), the clean token given the rest:
    joint = torch.einsum("ab,bd->ad", world.p_0, expm(graph, sigma_bar))
    for number, (x, rest) in enumerate(world.states.tolist()):
        if table[number, 0].isfinite().all() or graph.settles:
            logits = joint[:, rest].log()
            given = graph.log_score_of_mean(logits, torch.tensor(x), torch.tensor(sigma_bar, dtype=F64))
            relevant = graph.rates()[:, x] > 0
            torch.testing.assert_close(given[relevant], table[number, 0][relevant], rtol=1e-9, atol=1e-9)


def test_steps_are_stable_in_single_precision(graph):
    world = World(graph, 1)
    x = torch.arange(graph.n)
    for sigma_bar in SIGMAS:
        log_score, level = world.log_score_table(sigma_bar)[:, 0], torch.tensor(sigma_bar, dtype=F64)
        exact = graph.posterior(log_score, x, level, level / 2)
        single = graph.posterior(log_score.float(), x, level.float(), level.float() / 2)
        torch.testing.assert_close(single.double(), exact, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(
            graph.log_transition(x, level.float()).double(),
            graph.log_transition(x, level),
            rtol=1e-4,
            atol=1e-6,
        )


@pytest.mark.parametrize("sigma_bar", SIGMAS)
def test_where_the_mask_stands_in_the_alphabet_does_not_matter(sigma_bar):
    """Everything said about n tokens with the mask last holds after the alphabet is turned round."""
    n, level = 5, torch.tensor(sigma_bar, dtype=F64)
    last, first = GRAPHS["absorbing"](n=n, mask=n - 1), GRAPHS["absorbing"](n=n, mask=0)
    generator = torch.Generator().manual_seed(1)
    x_t, x_0 = torch.tensor([4, 4, 4, 4, 0, 1, 2, 3]), torch.tensor([0, 1, 2, 3, 0, 1, 2, 3])
    log_score = torch.randn(len(x_t), n, dtype=F64, generator=generator)
    turned = log_score.flip(-1), n - 1 - x_t, n - 1 - x_0
    for name, arguments, mirrored in [
        ("score_entropy", (log_score, x_t, x_0, level), (*turned, level)),
        ("posterior", (log_score, x_t, level, level / 3), (*turned[:2], level, level / 3)),
        ("log_score_of_mean", (log_score, x_t, level), (*turned[:2], level)),
        ("reverse_rates", (log_score, x_t), turned[:2]),
        ("log_transition", (x_0, level), (turned[2], level)),
    ]:
        given, other = getattr(last, name)(*arguments), getattr(first, name)(*mirrored)
        torch.testing.assert_close(given, other.flip(-1) if other.ndim == 2 else other, rtol=1e-12, atol=0)


@pytest.mark.parametrize("tokens", [torch.int64, torch.int32])
@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_any_batch_shape_keeps_its_shape_and_its_dtype(graph, dtype, tokens):
    clean = graph.clean_tokens(torch.device("cpu")).nonzero()[:, 0].to(tokens)
    for shape, level_shape in [((), ()), ((6,), ()), ((2, 3), (2, 1)), ((2, 3), (3,)), ((0,), ())]:
        x_0 = clean[torch.arange(math.prod(shape)) % len(clean)].view(shape)
        level = torch.full(level_shape, 0.7, dtype=dtype)
        x_t = graph.sample_transition(x_0, level, torch.Generator().manual_seed(0))
        assert (x_t.shape, x_t.dtype) == (shape, tokens)
        log_score = torch.zeros(*shape, graph.n, dtype=dtype)
        for rows in (
            graph.posterior(log_score, x_t, level, level),
            graph.reverse_rates(log_score, x_t),
            graph.log_score_of_mean(log_score, x_t, level),
            graph.log_transition(x_0, level),
        ):
            assert (rows.shape, rows.dtype) == ((*shape, graph.n), dtype)
        loss = graph.score_entropy(log_score, x_t, x_0, level)
        assert (loss.shape, loss.dtype) == (shape, dtype)


def test_posterior_of_a_wrong_score_is_still_a_distribution(graph):
    generator = torch.Generator().manual_seed(3)
    x = torch.arange(graph.n)
    for sigma_bar in SIGMAS:
        level = torch.tensor(sigma_bar, dtype=F64)
        p = graph.posterior(
            6 * torch.randn(graph.n, graph.n, dtype=F64, generator=generator), x, level, level
        )
        assert (p >= 0).all()
        torch.testing.assert_close(p.sum(-1), torch.ones(graph.n, dtype=F64))


@pytest.mark.parametrize("dtype", [torch.float32, F64])
def test_posterior_is_a_distribution_where_noise_has_left_nothing_of_a_score(graph, dtype):
    for sigma_bar in (36.0, 50.0, 200.0, 800.0):
        x, level = torch.arange(graph.n), torch.tensor(sigma_bar, dtype=dtype)
        guess = graph.log_score_of_mean(torch.zeros(graph.n, graph.n, dtype=dtype), x, level)
        p = graph.posterior(guess, x, level, level)
        assert (p >= 0).all()
        torch.testing.assert_close(p.sum(-1), torch.ones(graph.n, dtype=dtype))


def test_without_noise_the_prior_is_as_far_as_it_can_be(graph):
    apart = graph.prior_divergence(torch.tensor(0.0, dtype=F64)).item()
    assert apart == pytest.approx(0.0 if graph.settles else math.log(graph.n))
