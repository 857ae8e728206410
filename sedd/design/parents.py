"""Parents of redesigns: which of their positions are kept, and which ones the noise hits. Without torch."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sedd.data.alphabet import encode
from sedd.data.records import Record, read_records, require_own_names
from sedd.design.templates import GIVEN
from sedd.design.uniforms import HIT, uniforms
from sedd.errors import DataError, UsageError
from sedd.spec.redesign import RedesignOptions


@dataclass(frozen=True, slots=True)
class Parent:
    """A protein to be redesigned."""

    name: str
    tokens: NDArray[np.uint8]
    kept: NDArray[np.bool_]
    """Positions that stay as they are."""

    def share_hit(self, how: RedesignOptions) -> float:
        """The noise level, as the share of the free residues that it hits; less where the mutations are limited."""
        free = int((~self.kept).sum())
        return how.noise if how.max_mutations is None else min(how.noise, how.max_mutations / free)

    def hit(self, how: RedesignOptions, seed: int, number: int, draw: int) -> NDArray[np.bool_]:
        """Which residues the noise hits: each free one with the chance `how.noise`, at least one, at most as many as
        may mutate. `number` is the parent's: its draws do not depend on the others."""
        u = np.where(self.kept, np.inf, uniforms(len(self.tokens), seed, HIT, number, draw))
        ordered = np.argsort(u, kind="stable")
        count = max(1, int((u < how.noise).sum()))
        hit = np.zeros(len(u), np.bool_)
        hit[ordered[: min(count, how.max_mutations or count)]] = True
        return hit


def read_parents(path: Path, how: RedesignOptions) -> list[Parent]:
    """The parents of a FASTA file. Raises: DataError, UsageError, as `parse_parent`; DataError for two of one name."""
    records = list(read_records(path))
    require_own_names(records)
    return [parse_parent(record, how) for record in records]


def parse_parent(record: Record, how: RedesignOptions) -> Parent:
    """A parent, and what is kept of it.

    Raises:
        DataError: a gap, or a letter that is no amino acid. UsageError: a position that it does not have, or nothing
            free.
    """
    if strange := dict.fromkeys(letter for letter in record.text if letter.upper() not in GIVEN):
        named = " and ".join(map(repr, strange))
        raise DataError(f"parent '{record.name}' holds {named}: amino acids alone are taken, without gaps")
    tokens = encode(record.text)
    if not len(tokens):
        raise DataError(f"parent '{record.name}' has no residues")
    kept = np.zeros(len(tokens), np.bool_)
    for first, last in how.kept_ranges:
        if last > len(tokens):
            raise UsageError(
                f"position {last} cannot be kept: parent '{record.name}' has {len(tokens)} residues"
            )
        kept[first - 1 : last] = True
    if kept.all():
        raise UsageError(f"every position of parent '{record.name}' is kept: nothing is left to redesign")
    return Parent(record.name, tokens, kept)
