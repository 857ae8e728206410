"""The likelihood bound against exact likelihoods of worlds that can be written down."""

import itertools
import math

import pytest
import torch

from sedd.diffusion.bound import RULED_OUT, bound_terms, path_levels
from sedd.diffusion.draws import counter_noise, packed_positions
from sedd.diffusion.graph import GRAPHS
from sedd.diffusion.likelihood import _spread, join_bounds, likelihood_bound
from sedd.diffusion.noise import NOISES, Geometric
from sedd.diffusion.predictor import PREDICTORS
from sedd.diffusion.times import T_MIN
from tests.diffusion.enumeration import World, expm, noise_named, small_graph

F64 = torch.float64


def mean_bound(world, noise, log_score, x_0, copies=4000):
    """Mean and standard error of the bound of one sequence, by its own draws."""
    tokens = x_0.repeat(copies)
    cu = torch.arange(copies + 1, dtype=torch.int32) * world.length
    u = (torch.arange(copies, dtype=F64) + 0.5) / copies
    noise_source = counter_noise(1, 2, torch.arange(copies), cu, len(tokens))
    terms = bound_terms(log_score, tokens, cu, u, graph=world.graph, noise=noise, randomness=noise_source)
    each = terms.nats.view(copies, -1).sum(1)
    return each.mean().item(), (each.std() / copies**0.5).item()


def chain_law(world, noise, log_score, steps):
    """Exact distribution of the analytic sampler's result with this score."""
    times = torch.linspace(1, T_MIN, steps + 1, dtype=F64)
    law, graph = world.prior(), world.graph
    count = len(world.states)

    def at(t):
        sigma_bar = noise.total(t)
        flat = log_score(world.states.flatten(), sigma_bar.expand(count))
        return flat.view(count, world.length, world.n), sigma_bar

    for t, s in itertools.pairwise(times):
        law = world.law(PREDICTORS["analytic"](graph, noise, at(t)[0], world.states, t, s), law)
    log_score_end, sigma_bar = at(times[-1])
    kernel = graph.posterior(log_score_end, world.states, sigma_bar, sigma_bar)
    kernel = kernel * graph.clean_tokens(torch.device("cpu"))
    return world.law(kernel / kernel.sum(-1, keepdim=True), law)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("graph", GRAPHS)
def test_bound_of_the_exact_score_is_the_exact_likelihood(graph, noise):
    world, schedule = World(small_graph(graph), 2), noise_named(noise)
    for number in (0, 6):
        mean, error = mean_bound(world, schedule, world.log_score(), world.states[number])
        exact = -world.p_0.reshape(-1)[number].log().item()
        # What remains is the prior's distance and the last step's independent tokens.
        assert exact - 4 * error < mean < exact + 4 * error + 0.02
        assert error < 0.3


@pytest.mark.parametrize("graph", GRAPHS)
def test_bound_pays_for_both_ends_of_a_short_schedule(graph):
    world, noise = World(small_graph(graph), 1), Geometric(sigma_min=0.3, sigma_max=0.9)
    law = expm(world.graph, 0.9)
    for x_0 in world.p_0.nonzero()[:, 0].tolist():
        mean, error = mean_bound(world, noise, world.log_score(), torch.tensor([x_0]), copies=20_000)
        exact = -world.p_0[x_0].log()
        if not world.graph.settles:
            # Started from the prior, not from p_1: KL(P(x_0, .) || prior) - KL(P(x_0, .) || p_1).
            exact += (law[x_0] * (world.marginal(0.9) / world.prior()).log()).sum()
        assert mean == pytest.approx(exact.item(), abs=4 * error + 1e-3)
        assert error < 0.02


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("graph", GRAPHS)
def test_bound_of_a_wrong_score_is_above_the_likelihood_of_its_own_chain(graph, noise):
    world, schedule = World(small_graph(graph, 3), 2), noise_named(noise)
    wrong = world.log_score(distort=0.5)
    law = chain_law(world, schedule, wrong, steps=200)
    assert law.sum().item() == pytest.approx(1, abs=1e-9)
    for number in world.p_0.reshape(-1).nonzero()[:3, 0].tolist():
        mean, error = mean_bound(world, schedule, wrong, world.states[number])
        assert mean + 4 * error > -law[number].log().item()


@pytest.mark.parametrize("graph", GRAPHS)
def test_a_schedule_enters_the_bound_through_its_ends_alone(graph):
    world, loglinear = World(small_graph(graph), 2), noise_named("loglinear")
    first, last = loglinear.total(torch.tensor([T_MIN, 1.0], dtype=F64)).tolist()
    geometric = Geometric(sigma_min=(first / last**T_MIN) ** (1 / (1 - T_MIN)), sigma_max=last)
    bounds = [
        mean_bound(world, n, world.log_score(distort=0.5), world.states[6]) for n in (loglinear, geometric)
    ]
    assert bounds[0] == pytest.approx(bounds[1], rel=1e-9)


def test_noise_levels_of_a_path_run_from_end_to_end_and_weigh_as_they_are_spread():
    u = torch.linspace(0, 1, 100_001, dtype=F64)
    levels, weight = path_levels(u, 1e-3, 20.0)
    assert levels[[0, -1]].tolist() == pytest.approx([1e-3, 20.0])
    torch.testing.assert_close(levels.diff() / u.diff(), (weight[1:] + weight[:-1]) / 2, rtol=1e-6, atol=0)
    # As 1 / sqrt(sigma_bar): four times the level, half the density.
    density = 1 / weight
    low, four = (int((levels - level).abs().argmin()) for level in (2e-3, 8e-3))
    assert density[low] / density[four] == pytest.approx(2, rel=0.02)


def denoiser(n, length):
    """An inexact guess of each clean token from the tokens seen: logits [length, n]; no noise level enters."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(length, n, length, n, dtype=F64, generator=generator)

    def logits(x):
        seen = torch.nn.functional.one_hot(x, n).to(F64)
        return torch.einsum("...ia,iajb->...jb", seen, weight)

    return logits


@pytest.mark.parametrize("noise", NOISES)
def test_absorbing_bound_is_the_order_agnostic_autoregressive_value(noise):
    graph, length = small_graph("absorbing"), 3
    world, logits = World(graph, length), denoiser(4, length)

    def log_score(x, sigma_bar):
        rows = x.view(-1, length)
        return graph.log_score_of_mean(logits(rows), rows, sigma_bar[:, None]).view(-1, 4)

    x_0 = torch.tensor([0, 2, 1])
    orders = list(itertools.permutations(range(length)))
    value = 0.0
    for order in orders:
        x = torch.full((length,), graph.mask)
        for place in order:
            value -= logits(x)[place, :3].log_softmax(-1)[x_0[place]].item() / len(orders)
            x[place] = x_0[place]
    mean, error = mean_bound(world, noise_named(noise), log_score, x_0, copies=30_000)
    assert mean == pytest.approx(value, abs=4 * error)
    assert error < 0.02 * value


@pytest.mark.parametrize("graph", GRAPHS)
def test_likelihood_is_reproducible_and_indifferent_to_batches(graph):
    world, noise = World(small_graph(graph), 2), noise_named("loglinear")
    tokens, log_score = world.states[[0, 1, 5, 6, 9]].flatten(), world.log_score()
    cu = torch.arange(6, dtype=torch.int32) * 2
    options = {"graph": world.graph, "noise": noise, "draws": 8, "seed": 5}
    whole = likelihood_bound(log_score, tokens, cu, **options)
    again = likelihood_bound(log_score, tokens, cu, **options)
    assert torch.equal(whole.nats, again.nats)
    parts = [
        likelihood_bound(log_score, tokens[:4], cu[:3], **options),
        likelihood_bound(log_score, tokens[4:], cu[:4], first_sample=2, **options),
    ]
    joined = join_bounds(parts)
    torch.testing.assert_close(joined.nats, whole.nats, rtol=1e-12, atol=0)
    assert joined.nats_per_residue == pytest.approx(whole.nats_per_residue, rel=1e-12)
    other = likelihood_bound(log_score, tokens, cu, **{**options, "seed": 6})
    assert not torch.equal(other.nats, whole.nats)


@pytest.mark.parametrize(("graph", "ends"), [("absorbing", 0), ("uniform", 4 * 2)])
def test_the_end_is_drawn_for_one_draw_in_eight_of_each_set_and_the_bound_stays_the_same(graph, ends):
    # So early an end costs much.
    world, noise, draws = World(small_graph(graph), 2), Geometric(sigma_min=0.3, sigma_max=5.0), 4 * 9
    exact, levels = world.log_score(), []

    def log_score(x, sigma_bar):
        levels.append(sigma_bar)
        return exact(x, sigma_bar)

    copies = 4000
    tokens, cu = world.states[6].repeat(copies), torch.arange(copies + 1, dtype=torch.int32) * 2
    bound = likelihood_bound(log_score, tokens, cu, graph=world.graph, noise=noise, draws=draws, seed=0)
    assert len(levels) == draws + ends
    assert sum(bool((level == noise.total(torch.tensor(T_MIN, dtype=F64))).all()) for level in levels) == ends
    error = (bound.nats.std() / copies**0.5).item()
    whole, spread = mean_bound(world, noise, exact, world.states[6])
    assert bound.nats.mean().item() == pytest.approx(whole, abs=4 * math.hypot(error, spread))
    assert error < 0.03


@pytest.mark.parametrize("graph", GRAPHS)
def test_standard_error_covers_the_spread_over_seeds(graph):
    world, noise = World(small_graph(graph), 2), noise_named("loglinear")
    tokens, cu = world.states[[0, 1, 5, 6]].flatten(), torch.arange(5, dtype=torch.int32) * 2
    log_score = world.log_score(distort=0.3)
    runs = [
        likelihood_bound(log_score, tokens, cu, graph=world.graph, noise=noise, draws=12, seed=seed)
        for seed in range(16)
    ]
    spread = torch.tensor([run.nats_per_residue for run in runs]).std().item()
    claimed = sum(run.standard_error for run in runs) / len(runs)
    assert 0.6 * spread < claimed < 2 * spread
    bound = runs[0]
    assert bound.perplexity == pytest.approx(torch.tensor(bound.nats_per_residue, dtype=F64).exp().item())
    assert bound.bits_per_residue == pytest.approx(bound.nats_per_residue / 0.6931471805599453)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("graph", GRAPHS)
def test_standard_error_is_honest_for_long_sequences_with_rare_costly_jumps(graph, noise):
    graph, generator = GRAPHS[graph](), torch.Generator().manual_seed(0)
    frequencies = torch.zeros(33, dtype=F64)
    frequencies[4:24] = torch.rand(20, dtype=F64, generator=generator) + 0.2
    frequencies /= frequencies.sum()
    lengths = torch.randint(20, 300, (50,), generator=generator)
    cu = torch.cat([torch.zeros(1), lengths.cumsum(0)]).int()
    tokens = torch.multinomial(frequencies, int(lengths.sum()), replacement=True, generator=generator)
    index, _ = packed_positions(cu, len(tokens))

    def log_score(x, sigma_bar):
        # Exact, as the residues are independent: p_t = frequencies P(sigma_bar).
        rows = torch.arange(33).repeat(len(sigma_bar), 1)
        law = graph.log_transition(rows, sigma_bar.unsqueeze(-1)).exp()
        p_t = torch.einsum("a,say->sy", frequencies, law).clamp_min(1e-300).log()[index]
        return p_t - p_t.gather(-1, x.unsqueeze(-1))

    runs = [
        likelihood_bound(log_score, tokens, cu, graph=graph, noise=noise_named(noise), draws=16, seed=seed)
        for seed in range(12)
    ]
    found = torch.tensor([run.nats_per_residue for run in runs])
    claimed = sum(run.standard_error for run in runs) / len(runs)
    # The spread of twelve is known to a fifth.
    assert 0.65 * found.std() < claimed < 2 * found.std()
    entropy = -(frequencies[tokens].log()).mean().item()
    assert found.mean().item() == pytest.approx(entropy, abs=4 * claimed / 12**0.5 + 0.01)


@pytest.mark.parametrize("draws", [2, 4, 16])
def test_standard_error_is_honest_where_the_last_residues_cost_nothing(draws):
    """A protein whose second half repeats the first: whoever is asked late knows the answer, so cost falls with u."""
    graph, length, letters, copies = GRAPHS["absorbing"](n=5, mask=4), 400, 4, 150
    half = torch.randint(0, letters, (copies, length // 2), generator=torch.Generator().manual_seed(0))
    tokens = torch.cat([half, half], 1).flatten()
    cu = torch.arange(copies + 1, dtype=torch.int32) * length

    def log_score(x, sigma_bar):
        rows = x.view(-1, length)
        twin = rows.roll(length // 2, 1)
        known = torch.nn.functional.one_hot(twin, 5).to(F64)[..., :letters]
        guess = torch.where((twin == graph.mask).unsqueeze(-1), 1 / letters, known)
        guess = torch.cat([guess, torch.zeros_like(guess[..., :1])], -1)
        return graph.log_score_of_mean(guess.log(), rows, sigma_bar.unsqueeze(-1)).view(-1, 5)

    bound = likelihood_bound(
        log_score, tokens, cu, graph=graph, noise=noise_named("loglinear"), draws=draws, seed=0
    )
    exact = length / 2 * torch.tensor(letters, dtype=F64).log()
    spread = (bound.nats - exact).square().mean().sqrt()
    assert 0.8 < bound.variance.mean().sqrt() / spread < 1.25
    assert bound.nats.mean().item() == pytest.approx(exact.item(), abs=4 * spread.item() / copies**0.5)


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("graph", GRAPHS)
def test_tokens_behind_the_last_sequence_and_no_tokens_at_all_change_nothing(graph, noise):
    world, schedule = World(small_graph(graph), 2), noise_named(noise)
    options = {"graph": world.graph, "noise": schedule}
    x_0, cu = torch.tensor([0, 1, 1, 0]), torch.tensor([0, 2, 4], dtype=torch.int32)
    filled = torch.cat([x_0, torch.zeros(6, dtype=torch.int64)])
    u = torch.linspace(0, 1, 2, dtype=F64)
    log_score = world.log_score()

    def of_pairs(x, sigma_bar):
        head = log_score(x[:4], sigma_bar)
        return torch.cat([head, head.new_zeros(len(x) - 4, head.shape[-1])])

    def terms(tokens):
        noise_source = counter_noise(1, 2, torch.arange(2), cu, len(tokens))
        return bound_terms(of_pairs, tokens, cu, u, **options, randomness=noise_source).nats

    torch.testing.assert_close(terms(filled)[:4], terms(x_0), rtol=1e-12, atol=0)
    nothing, borders = torch.zeros(0, dtype=torch.int64), torch.zeros(2, dtype=torch.int32)
    silent = likelihood_bound(
        lambda x, sigma_bar: torch.zeros(0, world.n, dtype=F64), nothing, borders, draws=2, seed=0, **options
    )
    assert silent.nats.tolist() == [0.0]


@pytest.mark.parametrize("graph", GRAPHS)
def test_levels_of_a_set_are_one_a_stratum_and_on_the_absorbing_graph_slopes_cancel(graph):
    shift = torch.linspace(0, 1, 11, dtype=F64)[:-1] + 0.05
    for count in (1, 2, 7, 8):
        levels = torch.stack(_spread(count, GRAPHS[graph](), shift))
        assert torch.equal(
            (levels * count).floor(), torch.arange(count, dtype=F64)[:, None].expand(count, 10)
        )
        torch.testing.assert_close(levels.mean(1) * count, torch.arange(count, dtype=F64) + 0.5)
        if GRAPHS[graph].settles and count % 2 == 0:
            torch.testing.assert_close(levels.mean(0), torch.full((10,), 0.5, dtype=F64))


def test_an_error_that_cannot_be_told_is_not_made_up():
    world = World(small_graph("absorbing"), 2)
    options = {"graph": world.graph, "noise": noise_named("loglinear"), "seed": 0}
    with pytest.raises(ValueError, match="at least 2 draws"):
        likelihood_bound(world.log_score(), torch.tensor([0, 1]), torch.tensor([0, 2]), draws=1, **options)


def test_knowing_nothing_costs_exactly_the_alphabet_for_every_draw():
    graph = GRAPHS["absorbing"]()
    tokens = torch.randint(4, 24, (300,), generator=torch.Generator().manual_seed(0))
    cu = torch.tensor([0, 1, 100, 100, 300], dtype=torch.int32)
    index, _ = packed_positions(cu, 300)

    def log_score(x, sigma_bar):
        return graph.log_score_of_mean(torch.zeros(300, 33, dtype=F64), x, sigma_bar[index])

    bound = likelihood_bound(
        log_score, tokens, cu, graph=graph, noise=noise_named("geometric"), draws=5, seed=0
    )
    assert bound.nats_per_residue == pytest.approx(torch.tensor(32.0, dtype=F64).log().item(), rel=1e-7)
    assert bound.residues.tolist() == [1, 99, 0, 200]
    assert bound.standard_error < 1e-7


def test_a_residue_that_the_score_rules_out_is_counted_and_one_that_it_does_not_is_not():
    """A token that never moves away from 0, under a score that finds every other token impossible."""
    graph, noise = GRAPHS["uniform"](n=3), Geometric(sigma_min=0.3, sigma_max=5.0)
    cu = torch.tensor([0, 300, 600], dtype=torch.int32)
    tokens = torch.tensor([0] * 300 + [1] * 300)

    def log_score(x, sigma_bar):
        favoured = torch.tensor([0.0, -60.0, -60.0], dtype=F64)
        return favoured - favoured[x].unsqueeze(-1)

    bound = likelihood_bound(log_score, tokens, cu, graph=graph, noise=noise, draws=4, seed=0)
    ruled_out, fine = bound.ruled_out[1].item(), bound.ruled_out[0].item()
    assert fine == 0
    assert ruled_out > 0
    # Nothing but the last draw's own terms are cut: all that are counted, and each at the same price.
    terms = bound_terms(
        log_score, tokens, cu, torch.full((2,), 0.5, dtype=F64), graph=graph, noise=noise,
        randomness=counter_noise(0, 0, torch.arange(2), cu, len(tokens)),
    )  # fmt: skip
    assert (terms.nats[terms.ruled_out] > -math.log(RULED_OUT)).all()
    joined = join_bounds([bound, bound])
    assert joined.ruled_out.tolist() == [0, ruled_out, 0, ruled_out]


@pytest.mark.parametrize("graph", GRAPHS)
def test_the_exact_score_rules_nothing_out(graph):
    world, noise = World(small_graph(graph), 2), noise_named("loglinear")
    tokens = world.states[6].repeat(50)
    cu = torch.arange(51, dtype=torch.int32) * 2
    bound = likelihood_bound(world.log_score(), tokens, cu, graph=world.graph, noise=noise, draws=4, seed=0)
    assert bound.ruled_out.sum() == 0
