"""Samplers against their exact laws."""

import itertools

import pytest
import torch

from sedd.diffusion.graph import GRAPHS
from sedd.diffusion.infill import Template
from sedd.diffusion.noise import NOISES
from sedd.diffusion.predictor import PREDICTORS
from sedd.diffusion.sampler import sample
from sedd.diffusion.sharpen import Sharpening
from sedd.diffusion.times import T_MIN
from tests.diffusion.enumeration import World, chi_square_p, noise_named, small_graph

F64 = torch.float64
CPU = torch.device("cpu")


def exact_law(world, noise, predictor, steps):
    """Distribution of the sampler's result by multiplying its kernels over all states."""
    times = torch.linspace(1, T_MIN, steps + 1, dtype=F64)
    graph, law = world.graph, world.prior()
    for t, s in itertools.pairwise(times):
        score = world.log_score_table(noise.total(t).item())
        law = world.law(PREDICTORS[predictor](graph, noise, score, world.states, t, s), law)
    sigma_bar = noise.total(times[-1])
    kernel = graph.posterior(world.log_score_table(sigma_bar.item()), world.states, sigma_bar, sigma_bar)
    kernel = kernel * graph.clean_tokens(CPU)
    return world.law(kernel / kernel.sum(-1, keepdim=True), law)


def draw(world, noise, count, seed=0, log_score=None, **options):
    """Samples as [count, length]."""
    x = sample(
        world.log_score() if log_score is None else log_score,
        [world.length] * count,
        graph=world.graph,
        noise=noise,
        generator=torch.Generator().manual_seed(seed),
        **{"steps": 6, **options},
    )
    return x.view(count, world.length)


def counts(world, x):
    return world.index(x).bincount(minlength=len(world.states))


@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("graph", GRAPHS)
def test_error_of_the_law_falls_as_one_over_the_number_of_steps(graph, noise, predictor):
    world, schedule = World(small_graph(graph, 3), 2, seed=1), noise_named(noise)
    # What a schedule's end costs at any number of steps: the distance of p_1 from the prior.
    floor = (
        world.marginal(schedule.total(torch.tensor(1.0)).item()).reshape(-1) - world.prior()
    ).abs().sum() / 2
    floor = 0.0 if world.graph.settles else floor.item()
    error = [
        (exact_law(world, schedule, predictor, steps) - world.p_0.reshape(-1)).abs().sum().item() / 2
        for steps in (30, 60, 120)
    ]
    assert error[2] < 0.1
    for coarse, fine in itertools.pairwise(error):
        assert fine < 0.6 * coarse + floor + 2e-6


@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("graph", GRAPHS)
def test_samples_follow_the_exact_law(graph, noise, predictor):
    world, schedule = World(small_graph(graph, 3), 2), noise_named(noise)
    x = draw(world, schedule, 20_000, predictor=predictor)
    assert chi_square_p(counts(world, x), exact_law(world, schedule, predictor, 6)) > 1e-4


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("graph", GRAPHS)
def test_infilling_follows_the_conditional_and_keeps_what_is_given(graph, noise):
    world, count = World(small_graph(graph, 3), 3, seed=2), 6000
    given = torch.tensor([0, 0, 1]).expand(count, 3)
    free = torch.tensor([True, True, False]).expand(count, 3)
    template = Template(given.flatten(), free.flatten())
    x = draw(world, noise_named(noise), count, template=template, steps=60)
    assert (x[:, 2] == 1).all()
    conditional = world.p_0.clone()
    conditional[..., [i for i in range(3) if i != 1]] = 0
    observed, expected = counts(world, x) / count, (conditional / conditional.sum()).reshape(-1)
    # 1e-2: 60 steps' own error, or what a first guess leaves behind after the sweeps.
    assert (observed - expected).abs().sum() / 2 < 0.01 + 2 * (len(expected.nonzero()) / count) ** 0.5 / 2


@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("noise", NOISES)
def test_cached_sampler_gives_the_same_samples_with_fewer_calls(noise, predictor):
    world = World(small_graph("absorbing"), 3)
    exact, calls = world.log_score(), []

    def counted(x, sigma_bar):
        calls.append(x)
        return exact(x, sigma_bar)

    schedule = noise_named(noise)
    options = {"predictor": predictor, "steps": 60, "log_score": counted}
    plain = draw(world, schedule, 5, **options)
    assert len(calls) == 61
    calls.clear()
    assert torch.equal(draw(world, schedule, 5, cached=True, **options), plain)
    assert 1 <= len(calls) <= 15
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(calls))


@pytest.mark.parametrize("graph", ["absorbing", "uniform"])
def test_a_step_is_a_function_of_tensors_that_can_be_replayed(graph):
    """With a replay that, as a CUDA graph does, reads copies of its arguments and writes to one place."""
    world = World(small_graph(graph, 3), 3)
    made = []

    def replay(move):
        places: list[torch.Tensor] = []

        def again(*values):
            if not places:
                made.append(move)
                places.extend([v.clone() for v in values] + [values[0].clone()])
            for place, value in zip(places, values, strict=False):
                place.copy_(value)
            return places[-1].copy_(move(*places[:-1]))

        return again

    plain = draw(world, noise_named("loglinear"), 5, steps=12)
    assert torch.equal(draw(world, noise_named("loglinear"), 5, steps=12, replay=replay), plain)
    assert len(made) == 1


def test_many_tokens_are_moved_without_the_question_whether_any_moves(monkeypatch):
    world, asked = World(small_graph("absorbing"), 3), []
    monkeypatch.setattr(torch, "equal", lambda *both: asked.append(both) or False)
    draw(world, noise_named("loglinear"), 200, steps=10, cached=True)
    assert len(asked) == 1  # at the last draw, after the steps


def test_only_the_absorbing_graph_has_a_cached_sampler():
    world = World(small_graph("uniform"), 2)
    with pytest.raises(ValueError, match="absorbing"):
        draw(world, noise_named("loglinear"), 1, cached=True)


@pytest.mark.parametrize("predictor", PREDICTORS)
@pytest.mark.parametrize("graph", GRAPHS)
def test_every_sample_is_clean_and_allowed_even_of_a_useless_network(graph, predictor):
    whole = GRAPHS[graph]()
    generator = torch.Generator().manual_seed(3)
    allowed = (torch.arange(33) >= 4) & (torch.arange(33) < 24)

    def useless(x, sigma_bar):
        return 8 * torch.randn(len(x), 33, dtype=F64, generator=generator)

    for options in ({}, {"temperature": 0.5}, {"top_p": 0.5}, {"steps": 1}):
        x = sample(
            useless, [40, 0, 7], graph=whole, noise=noise_named("loglinear"), generator=generator,
            predictor=predictor, allowed=allowed, **{"steps": 5, **options},
        )  # fmt: skip
        assert x.shape == (47,)
        assert allowed[x].all()
        assert x.unique().numel() > 5


@pytest.mark.parametrize("graph", GRAPHS)
def test_same_seed_same_samples(graph):
    world = World(small_graph(graph), 2)
    first, again, other = (draw(world, noise_named("loglinear"), 50, seed=s) for s in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_temperature_sharpens_towards_the_likeliest_residue():
    world = World(small_graph("absorbing"), 1)
    p, cold = world.p_0[:3], world.p_0[:3] ** 4
    x = draw(world, noise_named("loglinear"), 20_000, temperature=0.25)
    assert chi_square_p(x.flatten().bincount(minlength=3), cold / cold.sum()) > 1e-4
    x = draw(world, noise_named("loglinear"), 2000, top_p=float(p.max()) - 1e-6)
    assert (x == p.argmax()).all()


@pytest.mark.parametrize("dtype", [torch.float32, F64])
@pytest.mark.parametrize("temperature", [10.0, 1000.0])
def test_no_heat_makes_the_impossible_possible(temperature, dtype):
    hot = Sharpening(allowed=torch.tensor([True, True, True, False]), temperature=temperature)
    law = hot.whole(torch.tensor([0.9, 0.1, 0.0, 0.5], dtype=dtype))
    expected = torch.tensor([0.9, 0.1], dtype=F64) ** (1 / temperature)
    torch.testing.assert_close(law[:2].double(), expected / expected.sum(), rtol=1e-5, atol=0)
    assert law[2:].tolist() == [0.0, 0.0]
    nothing = hot.whole(torch.zeros(4, dtype=dtype), never=torch.tensor([1]))
    assert nothing.tolist() == [0.5, 0.0, 0.5, 0.0]


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize("graph", GRAPHS)
def test_every_graph_gets_colder_with_temperature_and_top_p(graph, noise):
    """Mean probability of what is drawn: temperature 1 draws from p, so that it is the sum of p squared."""
    world = World(small_graph(graph), 1)
    p = world.p_0

    def mean_p(**options):
        x = draw(world, noise_named(noise), 4000, steps=30, **options)
        return p[x].mean().item()

    warm, cool, cold = (mean_p(temperature=t) for t in (1.0, 0.5, 0.1))
    assert warm == pytest.approx((p**2).sum().item(), abs=0.015)
    assert warm + 0.005 < cool < cold
    assert mean_p(top_p=0.5) > warm + 0.01


@pytest.mark.parametrize("graph", GRAPHS)
def test_all_randomness_comes_from_the_generator(graph):
    before = torch.random.get_rng_state()
    world = World(small_graph(graph), 2)
    template = Template(torch.tensor([0, 1] * 5), torch.tensor([True, False] * 5))
    draw(world, noise_named("loglinear"), 5, template=template)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_progress_is_told_after_every_step():
    told = []
    world = World(small_graph("absorbing"), 1)
    draw(world, noise_named("loglinear"), 2, steps=3, progress=lambda done, of: told.append((done, of)))
    assert told == [(1, 3), (2, 3), (3, 3)]
