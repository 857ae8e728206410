"""n-gram models of a store, as a baseline that a network must beat."""

import numpy as np
from numpy.typing import NDArray

from sedd.data.alphabet import SIZE
from sedd.data.store import Split

START = 0
"""Stands before the first residue; `<cls>`, which no stored sequence holds."""
_STRENGTHS = 10.0 ** np.arange(0, 6.01, 0.25)

Sequences = list[NDArray[np.uint8]]


def sequences_of(split: Split) -> Sequences:
    """All sequences of a split, each its token ids."""
    return [split.tokens(number) for number in range(split.sequences)]


def ngram_nats(train: Sequences, test: Sequences, *, longest: int = 3) -> list[float]:
    """Nats per residue of `test` under the unigram, bigram, … model of `train`, up to n = `longest`.

    Each is interpolated with the next shorter one: p_n(x | h) = (c(h x) + a p_{n-1}(x | h')) / (c(h) + a), the last of
    them with 1 / 33. The strength a of each n is the one that suits `test` best, so a baseline is rather too good.
    """
    before = np.full(SIZE, 1 / SIZE)
    found = []
    for n in range(1, longest + 1):
        seen, asked = _counts(train, n), _counts(test, n)
        shorter = np.broadcast_to(before, seen.shape)  # the oldest token of the context is the first axis
        models = [(seen + a * shorter) / (seen.sum(-1, keepdims=True) + a) for a in _STRENGTHS]
        nats = [-float((asked * np.log(model)).sum() / asked.sum()) for model in models]
        found.append(min(nats))
        before = models[int(np.argmin(nats))]
    return found


def _counts(sequences: Sequences, n: int) -> NDArray[np.int64]:
    """How often each n tokens follow each other, int64 [33] * n; a sequence begins with n - 1 START."""
    start = np.full(n - 1, START, np.uint8)
    row = np.concatenate([part for tokens in sequences for part in (start, tokens)]).astype(np.int64)
    code = np.zeros(len(row) - n + 1, np.int64)
    for place in range(n):
        code = code * SIZE + row[place : len(row) - n + 1 + place]
    # What ends in a START runs over a border between two sequences.
    inside = code[code % SIZE != START] if n > 1 else code
    return np.bincount(inside, minlength=SIZE**n).reshape((SIZE,) * n)
