"""Spearman's correlation against scipy, and its bootstrap error against the spread over samples."""

import numpy as np
import pytest
import scipy.stats

from sedd.inference.correlation import spearman


def pairs(count, seed):
    source = np.random.default_rng(seed)
    x = source.normal(size=count)
    return x, np.round(x + source.normal(size=count), 1)


def test_rho_is_scipys_with_ties_and_gaps():
    x, y = pairs(200, 0)
    y[[3, 5]] = np.nan
    x[7] = np.nan
    found = spearman(x, y)
    keep = np.isfinite(x) & np.isfinite(y)
    assert found.rho == pytest.approx(scipy.stats.spearmanr(x[keep], y[keep]).statistic, abs=1e-12)
    assert found.pairs == 197
    assert spearman(-x, y).rho == pytest.approx(-found.rho)


def test_the_error_is_what_other_samples_differ_by():
    spread = np.std([spearman(*pairs(100, seed)).rho for seed in range(60)])
    assert 0.6 * spread < spearman(*pairs(100, 99)).standard_error < 1.6 * spread


def test_a_rare_class_has_an_error_too():
    """A resample may hold none of four ones among a hundred; the error is that of those which do."""
    x, y = np.random.default_rng(2).normal(size=100), np.zeros(100)
    y[np.argsort(x)[-20::5]] = 1
    found = spearman(x, y)
    assert found.rho > 0.25
    assert 0 < found.standard_error < 0.2


def test_scrambled_positions_correlate_with_nothing():
    x, y = pairs(2000, 1)
    found = spearman(np.random.default_rng(3).permutation(x), y)
    assert abs(found.rho) < 4 * found.standard_error


def test_too_little_is_not_a_number():
    two = spearman(np.array([1.0, 2.0]), np.array([1.0, 2.0]))
    assert np.isnan(two.rho)
    assert two.text() == "not computed: 2 pairs with both numbers, at least 3 are needed"
    constant = spearman(np.ones(9), np.arange(9.0))
    assert np.isnan(constant.rho)
    assert constant.text() == "not computed: one side of the 9 pairs does not vary"
    assert constant.document() == {"rho": None, "standard_error": None, "pairs": 9}
