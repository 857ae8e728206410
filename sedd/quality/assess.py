"""Measure sampled proteins and held-out real ones of the same lengths."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sedd.data.store import Split, TokenStore
from sedd.quality.measures import (
    Protein,
    composition,
    distinct_share,
    divergence,
    divergence_by_chance,
    low_complexity_share,
)
from sedd.quality.neighbours import Neighbours, nearest_identities

NGRAMS = (1, 2, 3, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measures:
    """What a set of proteins is like."""

    proteins: int
    distinct_proteins: int
    residues: int
    composition: tuple[int, ...]
    """How often each of the 33 tokens occurs."""
    divergence: float
    """KL(this set || training data) of the residues' frequencies, nats."""
    low_complexity: float
    """Share of residues in stretches of low complexity."""
    distinct_ngrams: Mapping[int, float]
    """n to distinct n-grams over all n-grams."""
    identities: tuple[float, ...] | None
    """Of each protein with its nearest training protein; None where the training data was not at hand."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """All that a report shows."""

    samples: Measures
    held_out: Measures | None
    """Real proteins of the validation split, cut to the samples' lengths; None where the store was not at hand."""
    validation: int
    """Proteins of the validation split: of more samples than these some have the same one beside them."""
    training_composition: tuple[int, ...]
    divergence_by_chance: float
    """To expect of this many residues drawn from the training data's own frequencies, nats."""
    sample_lengths: tuple[int, ...]
    training_lengths: tuple[int, ...]
    """Quantiles at 0, 0.1, ... 100 %, as the network was trained: long proteins cut."""
    searched: int
    """Training proteins in which the nearest was looked for."""

    def document(self) -> dict[str, Any]:
        """For JSON, where what is infinite becomes null."""

        def plain(value: Any) -> Any:
            if isinstance(value, dict):
                return {str(key): plain(item) for key, item in value.items()}
            if isinstance(value, list | tuple):
                return [plain(item) for item in value]
            return None if isinstance(value, float) and not math.isfinite(value) else value

        document: dict[str, Any] = plain(asdict(self))
        return document


def assess(
    samples: Sequence[Protein],
    training_composition: NDArray[np.int64],
    training_lengths: Sequence[int],
    store: TokenStore | None,
) -> Assessment:
    """Measure samples, and beside them held-out proteins if the store is at hand."""
    neighbours = None if store is None else Neighbours(store.split("train"))
    lengths = [len(sample) for sample in samples]
    real = None if store is None else of_the_same_lengths(store.split("validation"), lengths)
    return Assessment(
        samples=_measure(samples, training_composition, neighbours),
        held_out=_measure(real, training_composition, neighbours) if real else None,
        validation=0 if store is None else store.split("validation").sequences,
        training_composition=tuple(int(count) for count in training_composition),
        divergence_by_chance=divergence_by_chance(sum(map(len, samples)), training_composition),
        sample_lengths=tuple(lengths),
        training_lengths=tuple(int(length) for length in training_lengths),
        searched=0 if neighbours is None else len(neighbours.numbers),
    )


def of_the_same_lengths(split: Split, lengths: Sequence[int]) -> list[Protein]:
    """For each length a protein of the split that is not shorter, cut to it; the longest where none is.

    Of these the one that was taken least often so far, then the shortest.
    """
    by_length = np.argsort(split.lengths(), kind="stable")
    sizes, taken = split.lengths()[by_length], np.zeros(split.sequences, np.int64)
    chosen = []
    for length in lengths if split.sequences else ():
        first = int(np.searchsorted(sizes, min(length, sizes[-1])))
        place = first + int(taken[first:].argmin())
        taken[place] += 1
        chosen.append(split.tokens(int(by_length[place]))[:length])
    return chosen


def _measure(
    proteins: Sequence[Protein], training_composition: NDArray[np.int64], neighbours: Neighbours | None
) -> Measures:
    counts = composition(proteins)
    return Measures(
        proteins=len(proteins),
        distinct_proteins=len({protein.tobytes() for protein in proteins}),
        residues=sum(map(len, proteins)),
        composition=tuple(int(count) for count in counts),
        divergence=divergence(counts, training_composition),
        low_complexity=low_complexity_share(proteins),
        distinct_ngrams={n: distinct_share(proteins, n) for n in NGRAMS},
        identities=None if neighbours is None else tuple(nearest_identities(proteins, neighbours)),
    )
