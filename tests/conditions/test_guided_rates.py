"""Guidance from its definitions alone: jump processes over all states, and a kernel over all states, written down.

Nisonoff et al. 2024 (arXiv 2406.01572): what is guided jumps from x to y at the rate R(x, y | c)^w R(x, y)^(1 - w),
where R is the rate of time reversed, R(x, y) = sigma' Q(y, x) p(y) / p(x). Schiff et al. 2024 (arXiv 2412.10193): each
masked residue is drawn from p(x_0 | z, c)^w p(x_0 | z)^(1 - w), normalised. Of the package only the jump rates of the
forward process and its schedule enter what is expected here.
"""

import functools
import itertools
import math

import numpy as np
import pytest
import scipy.linalg
import torch

from sedd.diffusion.graph import GRAPHS
from sedd.diffusion.guidance import guided
from sedd.diffusion.sampler import sample
from sedd.diffusion.times import T_MIN
from tests.diffusion.enumeration import chi_square_p, noise_named, small_graph

N, LENGTH, COUNT = 3, 2, 12_000
STATES = list(itertools.product(range(N), repeat=LENGTH))
CHANGED = np.array(
    [
        [[STATES.index((y, x[1])) for y in range(N)], [STATES.index((x[0], y)) for y in range(N)]]
        for x in STATES
    ]
)
"""Number of a state with y at a place: [state, place, y]."""
NOISE = noise_named("loglinear")


def populations(graph):
    """p(x | c) and p(x) = 0.3 p(x | c) + 0.7 p(x | other) over the states; no mask is clean."""
    generator = np.random.default_rng(8)
    tokens = N - 1 if graph.settles else N
    is_clean = np.array([max(state) < tokens for state in STATES], dtype=float)
    under, other = (w / w.sum() for w in (generator.random((2, len(STATES))) ** 2 + 0.05) * is_clean)
    return under, 0.3 * under + 0.7 * other


def generator_of(graph):
    """Q over states, rows are origins: one token jumps at a time."""
    one, found = graph.rates().numpy(), np.zeros((len(STATES), len(STATES)))
    for a, x in enumerate(STATES):
        for b, y in enumerate(STATES):
            places = [i for i in range(LENGTH) if x[i] != y[i]]
            if len(places) == 1:
                found[a, b] = one[x[places[0]], y[places[0]]]
    return found - np.diag(found.sum(1))


def sigma_bar(t):
    return float(NOISE.total(torch.tensor(t, dtype=torch.float64)))


def score_of(clean, q):
    """ln p_t(y) / p_t(x) of all one-token changes, for a sampler: the population's own, by a table."""

    def log_score(x, levels):
        p = clean @ scipy.linalg.expm(float(levels[0]) * q)
        with np.errstate(divide="ignore", invalid="ignore"):
            rows = np.where(p[:, None, None] > 0, np.log(p[CHANGED] / p[:, None, None]), 0.0)
        index = x.view(-1, LENGTH) @ torch.tensor([N, 1])
        return torch.from_numpy(rows)[index].view(-1, N)

    return log_score


def reversed_rates(clean, q, level):
    """R(x, y) over d sigma_bar: Q(y, x) p(y) / p(x), for y other than x."""
    p = clean @ scipy.linalg.expm(level * q)
    rates = np.divide(q.T * p, p[:, None], out=np.zeros_like(q), where=p[:, None] > 0)
    return rates - np.diag(np.diag(rates))


@functools.cache
def guided_law(graph, weight):
    """From pure noise at t = 1 down to T_MIN, the rates held constant over fine steps of equal sigma_bar ratio."""
    q, (under, every) = generator_of(graph), populations(graph)
    law = np.full(len(STATES), 0.0 if graph.settles else 1 / len(STATES))
    if graph.settles:
        law[STATES.index((graph.mask,) * LENGTH)] = 1
    levels = np.geomspace(sigma_bar(1.0), sigma_bar(T_MIN), 501)
    for before, after in itertools.pairwise(levels):
        middle = math.sqrt(before * after)
        with_label, without = (reversed_rates(clean, q, middle) for clean in (under, every))
        rates = with_label**weight * np.where(without > 0, without, 1.0) ** (1 - weight)
        law = law @ scipy.linalg.expm((before - after) * (rates - np.diag(rates.sum(1))))
    return law


def drawn(graph, weight, **options):
    q, (under, every) = generator_of(graph), populations(graph)
    x = sample(
        guided(score_of(under, q), score_of(every, q), weight),
        [LENGTH] * COUNT,
        graph=graph,
        noise=NOISE,
        generator=torch.Generator().manual_seed(3),
        **options,
    )
    return (x.view(-1, LENGTH) @ torch.tensor([N, 1])).bincount(minlength=len(STATES))


@pytest.mark.parametrize("weight", [0.5, 2.0, 3.0])
@pytest.mark.parametrize("graph", GRAPHS)
def test_many_steps_follow_the_guided_jump_process(graph, weight):
    tiny = small_graph(graph, N)
    law = guided_law(tiny, weight)
    clean = np.array([not tiny.settles or tiny.mask not in state for state in STATES])
    assert law[~clean].sum() < 0.01  # what has not jumped by T_MIN, of which the sampler draws the rest
    law = law * clean / (law * clean).sum()
    seen = (drawn(tiny, weight, steps=200) / COUNT).numpy()
    chance = 2 * (law * (1 - law) / COUNT) ** 0.5
    assert (abs(seen - law) < 2.5 * chance + 0.004).all()
    for other in (0.5, 1.0, 2.0, 3.0):
        if other != weight:
            wrong = guided_law(tiny, other)
            assert (abs(seen - wrong) > 5 * chance + 0.004).any(), other


@pytest.mark.parametrize("weight", [0.5, 1.0, 3.0])
def test_the_cached_sampler_draws_each_mask_from_the_guided_distribution(weight):
    """z_s of z_t: a mask stays with (1 - alpha_s) / (1 - alpha_t), alpha = e^-sigma_bar; at T_MIN all are drawn."""
    tiny, steps = small_graph("absorbing", N), 3
    under, every = populations(tiny)

    def given(clean, z, place):
        """p(x_0 at `place` | the tokens of z that are no masks)."""
        fits = [all(m in (c, tiny.mask) for m, c in zip(z, x, strict=True)) for x in STATES]
        found = np.array(
            [
                sum(p for p, x, f in zip(clean, STATES, fits, strict=True) if f and x[place] == y)
                for y in range(N)
            ]
        )
        return found / found.sum()

    times = [*np.linspace(1, T_MIN, steps + 1), 0.0]
    law = np.zeros(len(STATES))
    law[STATES.index((tiny.mask,) * LENGTH)] = 1
    for t, s in itertools.pairwise(times):
        stays = math.expm1(-sigma_bar(s)) / math.expm1(-sigma_bar(t)) if s else 0.0
        after = np.zeros(len(STATES))
        for a, z in enumerate(STATES):
            tokens = []
            for place, token in enumerate(z):
                if token != tiny.mask:
                    tokens.append(np.eye(N)[token])
                    continue
                one, other = (given(clean, z, place) for clean in (under, every))
                mixed = np.where(
                    one * other > 0, one**weight * np.where(other > 0, other, 1.0) ** (1 - weight), 0.0
                )
                tokens.append((1 - stays) * mixed / mixed.sum() + stays * np.eye(N)[tiny.mask])
            after += law[a] * np.multiply.outer(*tokens).reshape(-1)
        law = after
    assert chi_square_p(drawn(tiny, weight, steps=steps, cached=True), torch.from_numpy(law)) > 1e-4
