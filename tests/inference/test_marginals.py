"""Scores of substitutions against exact conditional log-odds of worlds that can be written down."""

import itertools

import numpy as np
import pytest

from sedd.diffusion.graph import GRAPHS
from sedd.inference.marginals import MARGINALS, marginal_scores
from sedd.spec.inference import ScoreOptions
from tests.inference.worlds import (
    all_variants,
    denoiser_of,
    log_conditional,
    log_p,
    variant,
    world_with_a_hiding_token,
)

WILD_TYPE = (0, 2, 1)
# Where the rest carries no noise to speak of: on the uniform graph an exact score is that of the noisy rest.
CLEAN = 1e-8


@pytest.fixture(params=GRAPHS)
def world(request):
    return world_with_a_hiding_token(request.param, 3)


def test_the_masked_marginal_is_the_exact_log_odds_with_the_sites_hidden(world):
    variants = all_variants(world, WILD_TYPE)
    found = marginal_scores("masked", denoiser_of(world), variants, ScoreOptions(sigma_bar=CLEAN))
    for one, score in zip(variants, found, strict=True):
        hidden = set(one.sites)
        exact = sum(
            log_conditional(world, one.wild_type, site, one.mutant[site], hidden)
            - log_conditional(world, one.wild_type, site, one.wild_type[site], hidden)
            for site in one.sites
        )
        assert score.mean() == pytest.approx(exact, abs=1e-6)


@pytest.mark.parametrize("method", ["masked", "wild_type", "orders"])
def test_single_substitutions_score_the_exact_log_odds_given_the_rest(world, method):
    variants = [v for v in all_variants(world, WILD_TYPE) if len(v.sites) == 1]
    assert len(variants) == 6
    how = ScoreOptions(sigma_bar=CLEAN, hidden=0)
    found = marginal_scores(method, denoiser_of(world), variants, how).mean(1)
    exact = [log_p(world, one.mutant) - log_p(world, one.wild_type) for one in variants]
    np.testing.assert_allclose(found, exact, atol=1e-6)
    # Signs: what is more probable than the wild type scores above 0.
    assert {value > 0 for value in exact} == {True, False}


def test_substitutions_in_any_order_add_up_to_the_exact_log_ratio(world):
    variants = all_variants(world, WILD_TYPE)
    how = ScoreOptions(sigma_bar=CLEAN, hidden=0, draws=3)
    found = marginal_scores("orders", denoiser_of(world), variants, how)
    for one, scores in zip(variants, found, strict=True):
        exact = log_p(world, one.mutant) - log_p(world, one.wild_type)
        np.testing.assert_allclose(scores, exact, atol=1e-6)


def test_orders_with_everything_hidden_at_times_average_to_the_order_agnostic_value(world):
    one, draws = variant(WILD_TYPE, (0, 0, 1)), 300
    (site,) = one.sites
    value = 0.0
    orders = list(itertools.permutations(range(3)))
    for order in orders:
        hidden = set(order[order.index(site) + 1 :])
        to, source = (
            log_conditional(world, one.wild_type, site, t[site], hidden) for t in (one.mutant, one.wild_type)
        )
        value += (to - source) / len(orders)
    how = ScoreOptions(sigma_bar=CLEAN, hidden=1, draws=draws)
    (scores,) = marginal_scores("orders", denoiser_of(world), [one], how)
    error = scores.std() / draws**0.5
    assert scores.mean() == pytest.approx(value, abs=4 * error)
    assert 0 < error < 0.2 * abs(value)


@pytest.mark.parametrize("method", MARGINALS)
def test_the_wild_type_itself_scores_exactly_nothing(world, method):
    same = variant(WILD_TYPE, WILD_TYPE)
    assert not marginal_scores(method, denoiser_of(world), [same], ScoreOptions()).any()


def test_mutants_of_one_site_share_the_sequences_that_are_asked_for(world):
    plan = MARGINALS["masked"](denoiser_of(world), all_variants(world, WILD_TYPE), ScoreOptions())
    assert len(plan.queries) == 2**3 - 1
    orders = MARGINALS["orders"](
        denoiser_of(world),
        [v for v in all_variants(world, WILD_TYPE) if len(v.sites) == 1],
        ScoreOptions(draws=4, hidden=0.99),
    )
    assert len(orders.queries) <= 3 * 4


def test_a_score_does_not_depend_on_the_other_mutants(world):
    variants = all_variants(world, WILD_TYPE)
    for method in MARGINALS:
        together = marginal_scores(method, denoiser_of(world), variants, ScoreOptions(hidden=0.5))
        alone = marginal_scores(method, denoiser_of(world), variants[5:6], ScoreOptions(hidden=0.5))
        np.testing.assert_allclose(alone[0], together[5], rtol=0, atol=1e-12)
