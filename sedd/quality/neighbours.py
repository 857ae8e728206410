"""Find the training protein most like a sample: does the network invent or remember?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sedd.data.alphabet import SIZE, decode
from sedd.data.store import Split
from sedd.errors import UsageError
from sedd.quality.measures import Protein, ngram_codes

WORD = 4
"""Residues of a word by which candidates are found."""
CANDIDATES = 50
"""Training proteins aligned with each sample."""
MOST = 50_000
"""Training proteins looked at, spread evenly over the store."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """The training protein whose alignment with the sample scores best."""

    sequence: int
    """Its number in the split."""
    identity: float
    """Equal residues of the best local alignment (Smith-Waterman, BLOSUM62, a gap of k costs 11 + k) over the sample's
    length: what a sample copies of one training protein, wherever it stands there."""


class Neighbours:
    """Training proteins, ready to be searched."""

    def __init__(self, split: Split, *, most: int = MOST) -> None:
        self._align = _aligner()
        self.numbers = np.unique(
            np.linspace(0, split.sequences - 1, min(most, split.sequences)).astype(np.int64)
        )
        self._proteins = [split.tokens(int(number)) for number in self.numbers]
        long = [p for p in self._proteins if len(p) >= WORD]
        self._where = np.flatnonzero([len(p) >= WORD for p in self._proteins])
        self._codes = np.concatenate([ngram_codes(p, WORD) for p in long]).astype(np.int32)
        self._starts = np.cumsum([0, *(len(p) - WORD + 1 for p in long)])[:-1]

    def nearest(self, sample: Protein) -> Neighbour:
        """The best scoring alignment with a candidate; candidates share the most words with the sample."""
        candidates = self._candidates(sample)
        letters = decode(sample)
        found = [self._align(letters, decode(self._proteins[place])) for place in candidates]
        best = int(np.argmax([score for score, _ in found]))
        return Neighbour(int(self.numbers[candidates[best]]), found[best][1] / len(sample))

    def _candidates(self, sample: Protein) -> NDArray[np.int64]:
        wanted = np.zeros(SIZE**WORD, np.uint8)
        wanted[ngram_codes(sample, WORD)] = 1
        shared = np.add.reduceat(wanted[self._codes], self._starts, dtype=np.int32)
        return self._where[np.argsort(-shared, kind="stable")[:CANDIDATES]]


def nearest_identities(samples: Sequence[Protein], neighbours: Neighbours) -> list[float]:
    """Identity of each sample with its nearest training protein."""
    return [neighbours.nearest(sample).identity for sample in samples]


def require_aligner() -> None:
    """Raise UsageError where parasail is not installed."""
    _aligner()


def _aligner() -> Callable[[str, str], tuple[int, int]]:
    """Score and number of equal residues of two proteins' best local alignment, by parasail's SIMD kernels.

    Raises:
        UsageError: it is not installed.
    """
    try:
        import parasail
    except ImportError as e:
        raise UsageError(
            "a report aligns samples to training proteins with parasail, which is not installed",
            hint="pip install 'protein-sedd[report]'",
        ) from e

    def align(sample: str, other: str) -> tuple[int, int]:
        # parasail's first residue of a gap costs its opening alone, hence 11 + 1.
        found = parasail.sw_stats_striped_sat(sample, other, 12, 1, parasail.blosum62)
        return int(found.score), int(found.matches)

    return align
