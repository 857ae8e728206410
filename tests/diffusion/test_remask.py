"""Samplers that revise, or order by confidence, and partial diffusion: against their exact laws."""

import itertools
import math

import pytest
import torch

from sedd.diffusion.graph import GRAPHS
from sedd.diffusion.infill import Start, Template
from sedd.diffusion.noise import NOISES
from sedd.diffusion.predictor import PREDICTORS
from sedd.diffusion.remask import ORDERS, chance_to_remask, with_remasking
from sedd.diffusion.sampler import sample
from sedd.diffusion.times import T_MIN
from tests.diffusion.enumeration import World, chi_square_p, expm, noise_named, small_graph
from tests.diffusion.test_sampler import CPU, F64, counts, draw

RATES = (0.5, 1.0, 4.0)


def exact_score(world):
    """The exact score of sequences at one level, from the table of all states: quick for many of them."""

    def log_score(x, sigma_bar):
        return world.log_score_table(sigma_bar[0].item())[world.index(x.view(-1, world.length))].view(
            -1, world.n
        )

    return log_score


def drawn(world, noise, count, **options):
    return draw(world, noise, count, **{"log_score": exact_score(world), **options})


def remasking_laws(world, noise, rate, times, start, predictor="analytic"):
    """The law of x at each time, by multiplying the exact kernels of all steps."""
    laws = [start]
    for t, s in itertools.pairwise(times):
        score = world.log_score_table(noise.total(t).item())
        kernel = PREDICTORS[predictor](world.graph, noise, score, world.states, t, s)
        sigma, step = chance_to_remask(rate, noise, t, s), noise.total(t) - noise.total(s)
        kernel = with_remasking(kernel, world.states, world.graph.mask, sigma, step)
        torch.testing.assert_close(kernel.sum(-1), torch.ones(kernel.shape[:-1], dtype=F64))
        assert (kernel >= 0).all()
        laws.append(world.law(kernel, laws[-1]))
    return laws


def marginals(world, noise, times):
    return [world.marginal(noise.total(t).item()).reshape(-1) for t in times]


def grid(steps, first=1.0):
    return torch.linspace(first, T_MIN, steps + 1, dtype=F64)


@pytest.mark.parametrize("rate", [*RATES, 1e9])
@pytest.mark.parametrize("noise", NOISES)
def test_one_token_has_the_forward_process_s_marginal_at_every_time(noise, rate):
    """Exactly, for any rate and step: ReMDM's theorem. The largest rate is the bound itself."""
    world, schedule, times = World(small_graph("absorbing", 4), 1, seed=1), noise_named(noise), grid(7)
    expected = marginals(world, schedule, times)
    found = remasking_laws(world, schedule, rate, times, expected[0])
    for law, marginal in zip(found, expected, strict=True):
        torch.testing.assert_close(law, marginal, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("rate", [0.5, 4.0])
def test_error_of_the_joint_marginals_at_every_time_falls_as_one_over_the_number_of_steps(rate, predictor):
    world, schedule = World(small_graph("absorbing", 3), 2, seed=1), noise_named("loglinear")

    def error(steps):
        times = grid(steps)
        expected = marginals(world, schedule, times)
        found = remasking_laws(world, schedule, rate, times, expected[0], predictor)
        return max((a - b).abs().sum().item() / 2 for a, b in zip(found, expected, strict=True))

    errors = [error(steps) for steps in (30, 60, 120)]
    assert errors[2] < 0.05
    for coarse, fine in itertools.pairwise(errors):
        assert fine < 0.65 * coarse


@pytest.mark.parametrize("noise", NOISES)
def test_samples_on_the_way_follow_the_forward_marginals(noise):
    """χ² of what the network is shown at each time, and of what comes out, at steps fine enough for this many."""
    world, schedule, seen = World(small_graph("absorbing", 3), 2), noise_named(noise), {}
    exact = exact_score(world)

    def watched(x, sigma_bar):
        seen[round(sigma_bar[0].item(), 12)] = counts(world, x.view(-1, 2))
        return exact(x, sigma_bar)

    x = drawn(world, schedule, 1000, log_score=watched, steps=160, remask=2.0)
    assert chi_square_p(counts(world, x), world.p_0.reshape(-1)) > 1e-4
    for sigma_bar in list(seen)[20::25]:
        assert chi_square_p(seen[sigma_bar], world.marginal(sigma_bar).reshape(-1)) > 1e-5


@pytest.mark.parametrize("predictor", PREDICTORS)
def test_samples_follow_the_exact_law_of_few_steps(predictor):
    world, schedule = World(small_graph("absorbing", 3), 2), noise_named("loglinear")
    times = grid(6)
    law = remasking_laws(world, schedule, 1.5, times, world.prior(), predictor)[-1]
    sigma_bar = schedule.total(times[-1])
    kernel = world.graph.posterior(
        world.log_score_table(sigma_bar.item()), world.states, sigma_bar, sigma_bar
    )
    kernel = kernel * world.graph.clean_tokens(CPU)
    law = world.law(kernel / kernel.sum(-1, keepdim=True), law)
    x = drawn(world, schedule, 20_000, predictor=predictor, remask=1.5)
    assert chi_square_p(counts(world, x), law) > 1e-4


@pytest.mark.parametrize("noise", NOISES)
def test_the_rate_is_how_often_a_token_is_masked_again(noise):
    world, last, masked_again, length, rate = World(small_graph("absorbing", 3), 2), [], 0, 2000, 2.0
    exact, mask = exact_score(world), world.graph.mask

    def watched(x, sigma_bar):
        nonlocal masked_again
        if last:
            masked_again += int(((last[-1] != mask) & (x == mask)).sum())
        last[:] = [x.clone()]
        return exact(x, sigma_bar)

    drawn(world, noise_named(noise), length // 2, log_score=watched, steps=200, remask=rate)
    # Of the visible ones, a share exp(-sigma_bar): a step's chance, which the bound cuts at the last of them.
    schedule = noise_named(noise)
    assert masked_again / length == pytest.approx(expected_remasked(schedule, rate, 200), rel=0.08)
    assert expected_remasked(schedule, rate, 20_000) == pytest.approx(rate, rel=0.01)


def expected_remasked(noise, rate, steps):
    t, s = grid(steps)[:-1], grid(steps)[1:]
    return float((chance_to_remask(rate, noise, t, s) * torch.exp(-noise.total(t))).sum())


@pytest.mark.parametrize(
    "options", [{"remask": 2.0}, {"order": "margin"}, {"remask": 1.0, "order": "confidence"}]
)
def test_the_cached_sampler_gives_the_same_samples(options):
    world = World(small_graph("absorbing"), 3)
    plain, cached = (
        drawn(world, noise_named("loglinear"), 3, steps=60, cached=c, **options) for c in (False, True)
    )
    assert torch.equal(plain, cached)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("remask", [0.0, 2.0])
def test_infilling_follows_the_conditional_and_never_hides_what_is_given(order, remask):
    world, count = World(small_graph("absorbing", 3), 3, seed=2), 1000
    exact = exact_score(world)

    def watched(x, sigma_bar):
        assert (x.view(-1, 3)[:, 2] == 1).all()
        return exact(x, sigma_bar)

    template = Template(torch.tensor([0, 0, 1] * count), torch.tensor([True, True, False] * count))
    x = drawn(
        world, noise_named("loglinear"), count, log_score=watched, template=template, steps=80,
        remask=remask, order=order,
    )  # fmt: skip
    conditional = torch.zeros_like(world.p_0)
    conditional[..., 1] = world.p_0[..., 1]
    observed, expected = counts(world, x) / count, (conditional / conditional.sum()).reshape(-1)
    assert (observed - expected).abs().sum() / 2 < 0.02 + (len(expected.nonzero()) / count) ** 0.5


@pytest.mark.parametrize("order", ["confidence", "margin"])
def test_an_order_keeps_how_many_are_masked_and_the_result_but_not_the_marginals_on_the_way(order):
    """With the exact score and steps in which two tokens of a sequence hardly ever appear at once."""
    world, schedule, seen, count = (
        World(small_graph("absorbing", 3), 2, seed=5),
        noise_named("loglinear"),
        {},
        3000,
    )
    exact, mask = exact_score(world), world.graph.mask

    def watched(x, sigma_bar):
        seen[sigma_bar[0].item()] = x.view(-1, 2).clone()
        return exact(x, sigma_bar)

    x = drawn(world, schedule, count, log_score=watched, steps=200, order=order)
    assert chi_square_p(counts(world, x), world.p_0.reshape(-1)) > 1e-4
    sigma_bar = list(seen)[100]
    masks = (seen[sigma_bar] == mask).sum(1).bincount(minlength=3)
    stays = math.exp(-sigma_bar)
    binomial = torch.tensor([stays**2, 2 * stays * (1 - stays), (1 - stays) ** 2], dtype=F64)
    assert chi_square_p(masks, binomial) > 1e-4
    there = world.marginal(sigma_bar).reshape(-1)
    assert chi_square_p(counts(world, seen[sigma_bar]), there) < 1e-6


@pytest.mark.parametrize("order", ["confidence", "margin"])
def test_the_most_confident_residues_of_each_sequence_appear_first(order):
    lengths, mask, shown = [5, 0, 3], 32, []
    # Confidence of each position: of the first sequence falling, of the other one rising.
    certain = torch.tensor([5.0, 4, 3, 2, 1, 1, 2, 3], dtype=F64)

    def log_score(x, sigma_bar):
        shown.append(x.clone())
        logits = torch.zeros(len(x), 33, dtype=F64)
        logits[:, 7] = certain
        return GRAPHS["absorbing"]().log_score_of_mean(logits, x, sigma_bar[0])

    sample(
        log_score, lengths, graph=GRAPHS["absorbing"](), noise=noise_named("loglinear"), steps=120,
        generator=torch.Generator().manual_seed(1), order=order,
    )  # fmt: skip

    for x in shown:
        first, other = (x[:5] == mask).tolist(), (x[5:] == mask).tolist()
        assert first == sorted(first)
        assert other == sorted(other, reverse=True)


@pytest.mark.parametrize("options", [{"remask": 1.0}, {"order": "margin"}])
def test_only_the_absorbing_graph_can_do_so(options):
    with pytest.raises(ValueError, match="absorbing"):
        drawn(World(small_graph("uniform"), 2), noise_named("loglinear"), 1, **options)


@pytest.mark.parametrize("order", ORDERS)
def test_every_sample_is_clean_and_allowed_even_of_a_useless_network(order):
    generator = torch.Generator().manual_seed(3)
    allowed = (torch.arange(33) >= 4) & (torch.arange(33) < 24)
    for options in ({}, {"temperature": 0.5}, {"top_p": 0.5}, {"steps": 1}, {"cached": True}):
        x = sample(
            lambda x, s: 8 * torch.randn(len(x), 33, dtype=F64, generator=generator), [40, 0, 7],
            graph=GRAPHS["absorbing"](), noise=noise_named("loglinear"), generator=generator,
            allowed=allowed, remask=3.0, order=order, **{"steps": 5, **options},
        )  # fmt: skip
        assert allowed[x].all()
        assert x.unique().numel() > 5


def partial_law(world, sigma_bar, parent):
    """Exactly: p(result) = sum over x_t of P(parent, x_t) p(x_0 | x_t)."""
    transition = expm(world.graph, sigma_bar)
    forward = torch.ones(1, dtype=F64)
    for token in parent:
        forward = (forward[:, None] * transition[token]).reshape(-1)
    likelihood = torch.ones(1, 1, dtype=F64)  # P(x_0, x_t) over all tokens
    for _ in parent:
        likelihood = torch.kron(likelihood, transition)
    joint = world.p_0.reshape(-1, 1) * likelihood
    posterior = joint / joint.sum(0, keepdim=True).clamp_min(1e-300)
    return posterior @ forward


def hits(count, length, share, seed=3):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count * length, dtype=F64, generator=generator) < share


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("graph", GRAPHS)
def test_partial_diffusion_of_a_parent_follows_its_exact_law(graph, noise):
    world, count, share, parent = World(small_graph(graph, 3), 2, seed=4), 2000, 0.4, [0, 1]
    start = Start(torch.tensor(parent * count), hits(count, 2, share), share)
    x = drawn(world, noise_named(noise), count, start=start, steps=60)
    law = partial_law(world, -math.log1p(-share), parent)
    observed = counts(world, x) / count
    assert (observed - law).abs().sum() / 2 < 0.015 + (len(law.nonzero()) / count) ** 0.5
    assert (world.p_0.reshape(-1) - law).abs().sum() / 2 > 0.2  # far from the law of new samples


@pytest.mark.parametrize("graph", GRAPHS)
def test_partial_diffusion_leaves_the_data_s_distribution_as_it_is(graph):
    world, count, share = World(small_graph(graph, 3), 2, seed=4), 2500, 0.5
    generator = torch.Generator().manual_seed(8)
    parents = torch.multinomial(world.p_0.reshape(-1), count, replacement=True, generator=generator)
    start = Start(world.states[parents].flatten(), hits(count, 2, share), share)
    x = drawn(world, noise_named("loglinear"), count, start=start, steps=100)
    assert chi_square_p(counts(world, x), world.p_0.reshape(-1)) > 1e-4


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_start_at_everything_hit_is_sampling_as_ever(graph):
    world, noise = World(small_graph(graph, 3), 2), noise_named("loglinear")
    start = Start(torch.zeros(100, dtype=torch.int64), torch.ones(100, dtype=torch.bool), 1.0)
    assert torch.equal(drawn(world, noise, 50, start=start), drawn(world, noise, 50))
