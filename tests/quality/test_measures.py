"""Measures of proteins against their definitions."""

import math

import numpy as np
import pytest

from sedd.data.alphabet import encode
from sedd.quality.measures import (
    composition,
    distinct_share,
    divergence,
    divergence_by_chance,
    low_complexity,
    low_complexity_share,
)

ALL = "ACDEFGHIKLMNPQRSTVWY"


def test_composition_counts_and_divergence_is_kullback_and_leiblers():
    p, q = composition([encode("AAAC"), encode("C")]), composition([encode("ACCC")])
    assert p.sum() == 5
    assert divergence(p, q) == pytest.approx(0.6 * math.log(0.6 / 0.25) + 0.4 * math.log(0.4 / 0.75))
    assert divergence(p, p) == 0.0
    assert divergence(composition([encode("AW")]), q) == math.inf


def test_divergence_by_chance_is_that_of_real_draws():
    counts = composition([encode(ALL + "AAAALLLLSSGG")])
    draw, kinds = np.random.default_rng(0), np.flatnonzero(counts)
    share = counts[kinds] / counts.sum()
    found = [
        divergence(np.bincount(draw.choice(kinds, 5000, p=share), minlength=33), counts) for _ in range(200)
    ]
    assert np.mean(found) == pytest.approx(divergence_by_chance(5000, counts), rel=0.1)


def test_low_complexity_is_a_run_of_poor_windows_with_one_poor_enough():
    rich = ALL + ALL[::-1]
    assert not low_complexity(encode(rich)).any()
    marked = low_complexity(encode(rich + "Q" * 20 + rich))
    assert marked[40:60].all()
    # A window of 12 with eight equal letters still has less than 2.5 bits; nothing is marked further out than that.
    assert not marked[: 40 - 6].any()
    assert not marked[60 + 6 :].any()
    # Windows of 12 with six kinds twice have log2(6) = 2.58 bits: too rich. Five kinds are not poor enough alone.
    assert not low_complexity(encode("ACDEFG" * 6)).any()
    assert not low_complexity(encode("ACDEF" * 6)).any()
    assert low_complexity(encode("ACDE" * 6)).all()
    assert not low_complexity(encode("QQQQ")).any()
    assert low_complexity_share([encode("ACDE" * 6), encode(rich)]) == pytest.approx(24 / 64)


def test_distinct_ngrams_are_counted_within_proteins_only():
    assert distinct_share([encode("ACAC")], 2) == pytest.approx(2 / 3)
    assert distinct_share([encode("AC"), encode("CA")], 2) == 1.0
    assert distinct_share([encode("AC"), encode("AC"), encode("A")], 2) == pytest.approx(1 / 2)
    assert distinct_share([encode("AC")], 4) == 1.0
