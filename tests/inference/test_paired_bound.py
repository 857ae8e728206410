"""Differences of bounds on common noise against enumeration."""

import numpy as np
import pytest
import torch

from sedd.diffusion.graph import GRAPHS
from sedd.inference.paired_bound import bound_difference, bound_estimates
from sedd.inference.variants import places_in_wild_type, windowed
from sedd.spec.inference import ScoreOptions
from tests.inference.worlds import all_variants, denoiser_of, log_p, variant, world_with_a_hiding_token

WILD_TYPE = (0, 2)


@pytest.fixture(params=GRAPHS)
def world(request):
    return world_with_a_hiding_token(request.param, 2)


def estimates(world, variants, *, seeds, draws, **denoiser):
    """[variants, sets of all seeds]."""
    how = [ScoreOptions(draws=draws, seed=seed) for seed in range(seeds)]
    return np.concatenate(
        [bound_difference(denoiser_of(world, **denoiser), variants, h) for h in how], axis=1
    )


def test_the_mean_over_draws_is_the_exact_log_ratio(world):
    variants = all_variants(world, WILD_TYPE)
    found = estimates(world, variants, seeds=8, draws=64)
    exact = np.array([log_p(world, one.mutant) - log_p(world, one.wild_type) for one in variants])
    error = found.std(1, ddof=1) / found.shape[1] ** 0.5
    # The uniform bound's ends, the prior's distance and the last step, leave two thousandths.
    assert (abs(found.mean(1) - exact) < 4 * error + 0.002).all()
    assert np.median(error) < 0.2
    sure = abs(exact) > 5 * error
    assert sure.any()
    assert (np.sign(found.mean(1)) == np.sign(exact))[sure].all()


def test_an_inexact_score_has_the_difference_of_its_own_two_bounds():
    """Absorbing, two residues: the four costs of two orders, written out."""
    world = world_with_a_hiding_token("absorbing", 2)
    denoiser, mask = denoiser_of(world, distort=0.5), 3

    def bound(x):
        total = 0.0
        for first in (0, 1):
            for hidden in ({0, 1}, {1 - first}):
                seen = torch.tensor([mask if place in hidden else x[place] for place in (0, 1)])
                level = torch.tensor([1.0], dtype=torch.float64)
                log_q = denoiser.log_score(None, 2)(seen, level) + torch.expm1(level).log()
                place = first if len(hidden) == 2 else 1 - first
                q = log_q[place, :3].exp()
                total += float(q.sum() - 1 - log_q[place, x[place]]) / 2
        return total

    mutant = (1, 0)
    found = estimates(world, [variant(WILD_TYPE, mutant)], seeds=8, draws=64, distort=0.5)[0]
    exact = bound(WILD_TYPE) - bound(mutant)
    assert found.mean() == pytest.approx(exact, abs=4 * found.std(ddof=1) / len(found) ** 0.5 + 1e-9)


def test_equal_sequences_differ_by_exactly_nothing(world):
    assert not estimates(world, [variant(WILD_TYPE, WILD_TYPE)], seeds=2, draws=4).any()


def test_common_noise_takes_a_part_of_the_error_away():
    world = world_with_a_hiding_token("absorbing", 3)
    one = variant((0, 2, 1), (0, 2, 0))
    paired = estimates(world, [one], seeds=20, draws=16)[0]
    # Apart: the wild type beside a mutant of other noise, each in a call of its own.
    nothing = np.arange(3)
    how = [ScoreOptions(draws=16, seed=seed) for seed in range(40)]
    alone = [
        bound_estimates(denoiser_of(world), [(t, nothing) for t in (one.wild_type, one.mutant)], h)
        for h in how
    ]
    apart = np.concatenate([first[0] - other[1] for first, other in zip(alone[:20], alone[20:], strict=True)])
    assert np.var(apart) > 2 * np.var(paired)


def test_residues_behind_an_insertion_keep_the_noise_of_their_wild_type():
    inserted = variant((5, 6, 7, 8), (5, 6, 9, 9, 7, 8))
    assert places_in_wild_type(inserted).tolist() == [0, 1, 4, 5, 2, 3]
    deleted = variant((5, 6, 7, 8), (5, 8))
    assert places_in_wild_type(deleted).tolist() == [0, 3]
    assert places_in_wild_type(variant((5, 5, 5), (5, 5))).tolist() == [0, 1]
    assert places_in_wild_type(variant((5, 6, 5), (5, 7, 5))).tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("wild_type", "mutant", "expected"),
    [
        ((1, 2, 3, 4, 5, 6), (1, 2, 9, 4, 5, 6), ((2, 3, 4), (2, 9, 4))),
        ((1, 2, 3, 4, 5, 6), (9, 2, 3, 4, 5, 6), ((1, 2, 3), (9, 2, 3))),
        ((1, 2, 3, 4, 5, 6), (1, 2, 3, 4, 5, 9), ((4, 5, 6), (4, 5, 9))),
        ((1, 2, 3, 4, 5, 6), (1, 2, 4, 5, 6), ((2, 3, 4), (2, 4))),
        ((1, 2), (1, 9), ((1, 2), (1, 9))),
    ],
)
def test_a_long_protein_is_scored_in_a_window_around_what_differs(wild_type, mutant, expected):
    cut = windowed(variant(wild_type, mutant), 3)
    assert (tuple(cut.wild_type), tuple(cut.mutant)) == expected
