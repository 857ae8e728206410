"""Mutants of wild types: all single ones, or those of a table, each as a pair of sequences."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sedd.data.alphabet import TOKENS, encode
from sedd.data.records import Record
from sedd.errors import DataError
from sedd.spec.inference import ScoreOptions

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
_OF_INDELS = ("bound",)
"""Methods that score insertions and deletions, too; the others are marginals.MARGINALS."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Variant:
    """A mutant and its wild type."""

    protein: str
    name: str
    wild_type: NDArray[np.uint8]
    mutant: NDArray[np.uint8]

    @property
    def is_substitution(self) -> bool:
        """Whether no residue was inserted or deleted."""
        return len(self.wild_type) == len(self.mutant)

    @property
    def sites(self) -> tuple[int, ...]:
        """Positions that differ, from 0; of substitutions only."""
        return tuple(int(place) for place in np.flatnonzero(self.wild_type != self.mutant))


@dataclass(frozen=True, slots=True)
class VariantTable:
    """Mutants in the order of their table, and the table's columns, which an answer repeats."""

    variants: tuple[Variant, ...]
    columns: Mapping[str, Sequence[str]]
    offset: int
    """What was added to positions (from 1) in the names of mutants."""
    source: str = ""
    """The file that was read, and the line of each row; of mutants that were made none."""
    lines: Sequence[int] = ()


def scan(wild_types: Sequence[Record], *, offset: int = 0) -> VariantTable:
    """All single substitutions by the twenty amino acids, position by position. Raises: DataError."""
    variants = []
    for record in wild_types:
        tokens = residues_of(record.text, record.where)
        for place, letter in enumerate(letters_of(tokens)):
            for other in LETTERS:
                if other != letter:
                    mutant = tokens.copy()
                    mutant[place] = TOKENS.index(other)
                    name = f"{letter}{place + 1 + offset}{other}"
                    variants.append(Variant(protein=record.name, name=name, wild_type=tokens, mutant=mutant))
    names = {"protein": [v.protein for v in variants], "mutant": [v.name for v in variants]}
    return VariantTable(tuple(variants), names, offset)


def share_of(table: VariantTable, number: int, shares: int) -> VariantTable:
    """The number-th, from 1, of equal shares of a table's rows, in order. Raises: DataError where it is empty."""
    count = len(table.variants)
    part = slice(count * (number - 1) // shares, count * number // shares)
    if part.start == part.stop:
        raise DataError(f"share {number} of {shares} of {count} mutants is empty")
    columns = {name: cells[part] for name, cells in table.columns.items()}
    return dataclasses.replace(table, variants=table.variants[part], columns=columns, lines=table.lines[part])


def require_substitutions(variants: Sequence[Variant], how: ScoreOptions) -> None:
    """Refuse what a method cannot score, before the work. Raises: DataError."""
    marginal = [method for method in how.methods if method not in _OF_INDELS]
    indel = next((variant for variant in variants if not variant.is_substitution), None)
    if marginal and indel is not None:
        raise DataError(
            f"mutant '{indel.name}' of '{indel.protein}' has {len(indel.mutant)} residues, its wild type "
            f"{len(indel.wild_type)}: {marginal[0]} scores substitutions alone",
            hint="the method bound scores insertions and deletions, too",
        )


def windowed(variant: Variant, longest: int) -> Variant:
    """The stretch of at most `longest` residues around what differs; the whole where that is short enough.

    Raises:
        DataError: what differs is longer.
    """
    before, after = _shared_ends(variant)
    total = max(len(variant.wild_type), len(variant.mutant))
    if total <= longest:
        return variant
    changed = total - before - after
    if changed > longest:
        raise DataError(
            f"'{variant.name}' differs over {changed} residues, the network was trained on at most {longest}"
        )
    start = min(max(0, before - (longest - changed) // 2), total - longest)
    end = total - longest - start
    cut = [tokens[start : len(tokens) - end] for tokens in (variant.wild_type, variant.mutant)]
    return dataclasses.replace(variant, wild_type=cut[0], mutant=cut[1])


def places_in_wild_type(variant: Variant) -> NDArray[np.int64]:
    """For each residue of the mutant the position of the wild type that it stands for; new ones count on behind it.

    Insertions and deletions are taken as one stretch: what both begin and end with is the same.
    """
    if variant.is_substitution:
        return np.arange(len(variant.mutant))
    before, after = _shared_ends(variant)
    length, new = len(variant.wild_type), len(variant.mutant) - before - after
    return np.concatenate(
        [np.arange(before), length + np.arange(new), np.arange(length - after, length)]
    ).astype(np.int64)


def _shared_ends(variant: Variant) -> tuple[int, int]:
    """How many residues wild type and mutant share from the beginning, and then from the end."""
    shorter = min(len(variant.wild_type), len(variant.mutant))
    same = variant.wild_type[:shorter] == variant.mutant[:shorter]
    before = shorter if same.all() else int(np.argmin(same))
    left = shorter - before
    ends = variant.wild_type[len(variant.wild_type) - left :] == variant.mutant[len(variant.mutant) - left :]
    return before, left if ends.all() else int(np.argmin(ends[::-1]))


def letters_of(tokens: NDArray[np.uint8]) -> list[str]:
    return [TOKENS[token] for token in tokens]


def residues_of(text: str, where: str) -> NDArray[np.uint8]:
    try:
        tokens = encode(text)
    except DataError as e:
        raise DataError(f"{where}: {e.message}") from e
    gaps = [letter for letter in text if letter in "-."]
    if gaps or not len(tokens):
        raise DataError(f"{where}: {'a gap in the sequence' if gaps else 'there is no sequence'}")
    return tokens
