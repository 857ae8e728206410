"""The batch on which two ways to compute a network are compared."""

import itertools

from sedd.preflight.read import compare_networks as twin


def test_uneven_sequences_fill_the_batch():
    borders = twin._borders(1000, 200)
    lengths = {b - a for a, b in itertools.pairwise(borders)}
    assert borders[-1] == 1000
    assert len(lengths) >= 4
    assert max(lengths) <= 200
