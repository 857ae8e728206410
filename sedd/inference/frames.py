"""Templates of proteins: what is given, and which positions are free. Without torch, so that errors come at once."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sedd.data.alphabet import RESIDUES, decode, encode
from sedd.data.records import Record, read_records
from sedd.errors import DataError

FREE = "_?"
"""Letters of a template that mark free positions."""
GIVEN = decode(np.array(sorted(RESIDUES)))
"""Letters of a template that stay, in either case."""


@dataclass(frozen=True, slots=True)
class Frame:
    """A template protein: what is given, and which positions are free."""

    name: str
    tokens: np.ndarray
    free: np.ndarray


def read_frames(path: Path) -> list[Frame]:
    """The templates of a FASTA file. Raises: DataError, as `parse_frame`."""
    return [parse_frame(record) for record in read_records(path)]


def parse_frame(record: Record) -> Frame:
    """A template from a FASTA record. Raises: DataError for a letter that is no amino acid, or nothing free."""
    free = np.array([letter in FREE for letter in record.text])
    if not free.any():
        raise DataError(f"template '{record.name}' has no free position", hint="mark them with _ or ?")
    kept = FREE + GIVEN + GIVEN.lower()
    if strange := dict.fromkeys(letter for letter in record.text if letter not in kept):
        raise DataError(
            f"template '{record.name}' holds {', '.join(strange)}: no amino acid that could be kept",
            hint="mark the position free with _ or ?, or take it out",
        )
    tokens = encode("".join("X" if letter in FREE else letter for letter in record.text))
    return Frame(record.name, tokens, free)
