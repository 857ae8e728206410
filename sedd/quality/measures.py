"""Measures of a set of proteins: composition, low complexity, repetition. Proteins are arrays of token ids."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from sedd.data.alphabet import SIZE

Protein = NDArray[np.uint8]

WINDOW, TRIGGER_BITS, EXTENSION_BITS = 12, 2.2, 2.5
"""SEG's own defaults (Wootton and Federhen 1993, Computers & Chemistry 17, 149)."""


def composition(proteins: Sequence[Protein]) -> NDArray[np.int64]:
    """How often each token occurs: int64 [33]."""
    return np.bincount(np.concatenate(proteins), minlength=SIZE)


def divergence(p: NDArray[np.int64], q: NDArray[np.int64]) -> float:
    """KL(p || q) in nats of two compositions given as counts; infinite if p holds what q never does."""
    p_share, q_share = p / p.sum(), q / q.sum()
    there = p > 0
    if (q[there] == 0).any():
        return math.inf
    return float((p_share[there] * np.log(p_share[there] / q_share[there])).sum())


def divergence_by_chance(drawn: int, q: NDArray[np.int64]) -> float:
    """KL(p || q) to expect of `drawn` residues from q itself, in nats: (kinds of residues - 1) / (2 drawn)."""
    return (int((q > 0).sum()) - 1) / (2 * drawn)


def low_complexity(protein: Protein) -> NDArray[np.bool_]:
    """Which residues lie in a stretch of low complexity by the first stage of SEG.

    A stretch is a run of windows of 12 residues whose composition has at most 2.5 bits of entropy each, one of them at
    most 2.2. SEG's second stage, which trims each stretch to its least probable part, is left out.
    """
    low = np.zeros(len(protein), bool)
    if len(protein) < WINDOW:
        return low
    bits = _window_bits(protein)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], bits <= EXTENSION_BITS, [False]])))
    for first, stop in edges.reshape(-1, 2):
        if bits[first:stop].min() <= TRIGGER_BITS:
            low[first : stop + WINDOW - 1] = True
    return low


def _window_bits(protein: Protein) -> NDArray[np.float64]:
    """Entropy of the composition of each window, in bits: [length - 11]."""
    one_hot = np.zeros((len(protein) + 1, SIZE), np.int32)
    one_hot[np.arange(1, len(protein) + 1), protein] = 1
    sums = one_hot.cumsum(0)
    share = (sums[WINDOW:] - sums[:-WINDOW]) / WINDOW
    bits: NDArray[np.float64] = -(share * np.log2(np.where(share > 0, share, 1.0))).sum(1)
    return bits


def low_complexity_share(proteins: Sequence[Protein]) -> float:
    """Share of all residues that `low_complexity` marks."""
    return sum(int(low_complexity(p).sum()) for p in proteins) / sum(map(len, proteins))


def distinct_share(proteins: Sequence[Protein], n: int) -> float:
    """Distinct n-grams over all n-grams (distinct-n, Li et al. 2016, arXiv 1510.03055); 1 where nothing repeats.

    It falls with the number of residues: compare sets of the same size only.
    """
    codes = np.concatenate([ngram_codes(p, n) for p in proteins])
    return len(np.unique(codes)) / len(codes) if len(codes) else 1.0


def ngram_codes(protein: Protein, n: int) -> NDArray[np.int64]:
    """A number below 33^n for each n-gram, in order; none in a shorter protein."""
    count = max(0, len(protein) - n + 1)
    codes = np.zeros(count, np.int64)
    for place in range(n):
        codes = codes * SIZE + protein[place : place + count]
    return codes
