"""n-gram baselines against counting by hand."""

import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from sedd.data.alphabet import encode

TOOLS = Path(__file__).parents[2] / "tools"


@pytest.fixture
def ngrams(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(TOOLS))
    import _ngrams

    return _ngrams


def test_a_source_that_remembers_n_letters_is_known_by_the_model_of_its_length(ngrams: ModuleType):
    """Letter k is the sum of the two before it, modulo 4: no pair of letters tells the third's; a triple does."""
    draw = np.random.default_rng(0)
    sequences = []
    for _ in range(300):
        letters = list(draw.integers(0, 4, 2))
        while len(letters) < 100:
            letters.append((letters[-1] + letters[-2] + (draw.random() < 0.1)) % 4)
        sequences.append(encode("".join("ACDE"[k] for k in letters)))
    uni, bi, tri = ngrams.ngram_nats(sequences[:200], sequences[200:])
    noise = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    expected = (2 * math.log(4) + 98 * noise) / 100  # the first two letters are free
    assert uni == pytest.approx(math.log(4), abs=0.01)
    assert bi == pytest.approx(math.log(4), abs=0.01)
    assert tri == pytest.approx(expected, abs=0.02)


def test_sequences_do_not_run_into_each_other(ngrams: ModuleType):
    one = [encode("AC")] * 50
    _, bigram = ngrams.ngram_nats(one, one, longest=2)
    # A follows the start, C follows A: nothing is left to ask. With C -> A counted there would be.
    assert bigram == pytest.approx(0.0, abs=0.05)


def test_more_context_never_costs_where_its_strength_is_chosen(ngrams: ModuleType):
    draw = np.random.default_rng(1)
    sequences = [draw.integers(4, 24, 60).astype(np.uint8) for _ in range(40)]
    nats = ngrams.ngram_nats(sequences[:30], sequences[30:])
    assert nats == sorted(nats, reverse=True) or nats[0] == pytest.approx(nats[-1], abs=1e-3)
