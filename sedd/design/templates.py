"""Templates of proteins: what is given, which positions are free, and gaps of free positions of a range of lengths."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sedd.data.alphabet import RESIDUES, decode, encode
from sedd.data.records import Record, read_records, require_own_names
from sedd.design.uniforms import GAP, uniforms
from sedd.errors import DataError, UsageError

FREE = "_?"
"""Letters of a template that mark free positions."""
GIVEN = decode(np.array(sorted(RESIDUES)))
"""Letters of a template that stay, in either case."""
LONGEST_GAP = 100_000
_ONLY = "template"
"""Name of the only one that is written out."""
_GAP = re.compile(r"\{([0-9]{1,9})(?:-([0-9]{1,9}))?\}[_?]")
_GAP_WITHOUT_LETTER = re.compile(r"\{[0-9]+(-[0-9]+)?\}(?![_?])")


@dataclass(frozen=True, slots=True)
class Frame:
    """A protein to be completed: what is given, and which positions are free."""

    name: str
    tokens: NDArray[np.uint8]
    free: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Template:
    """Pieces with a gap between any two: the numbers of free positions that it may have, ends included."""

    name: str
    pieces: tuple[str, ...]
    gaps: tuple[tuple[int, int], ...] = ()

    @property
    def shortest(self) -> int:
        """Residues where every gap has the shortest length that it may have."""
        return sum(map(len, self.pieces)) + sum(low for low, _ in self.gaps)

    @property
    def longest(self) -> int:
        """Residues where every gap has the longest length that it may have."""
        return sum(map(len, self.pieces)) + sum(high for _, high in self.gaps)

    def frame(self, seed: int, *counters: int) -> Frame:
        """Every gap with a length drawn evenly from its range, as a function of seed and counters."""
        drawn = uniforms(len(self.gaps), seed, GAP, *counters)
        lengths = [low + int(u * (high - low + 1)) for u, (low, high) in zip(drawn, self.gaps, strict=True)]
        text = self.pieces[0] + "".join(
            FREE[0] * n + piece for n, piece in zip(lengths, self.pieces[1:], strict=True)
        )
        free = np.array([letter in FREE for letter in text], dtype=np.bool_)
        return Frame(self.name, encode("".join("X" if letter in FREE else letter for letter in text)), free)


def read_templates(path: Path | None, inline: Sequence[str]) -> list[Template]:
    """The templates of a FASTA file, and those that are written out.

    Raises:
        DataError: the file, as `parse_template`, or two of one name in it. UsageError: one that is written out.
    """
    records = list(read_records(path)) if path is not None else []
    require_own_names(records)
    return [*map(parse_template, records), *_written_out(inline)]


def _written_out(texts: Sequence[str]) -> Iterator[Template]:
    for number, text in enumerate(texts, start=1):
        name = _ONLY if len(texts) == 1 else f"template_{number}"
        try:
            yield parse_template(Record(name, "".join(text.split())))
        except DataError as e:
            raise UsageError(e.message, hint=e.hint) from e


def parse_template(record: Record) -> Template:
    """A template from its text. Raises: DataError for a letter that is no amino acid, a bad gap, or nothing free."""
    pieces, gaps, behind = [], [], 0
    for found in _GAP.finditer(record.text):
        low, high = int(found[1]), int(found[2] or found[1])
        if not low <= high <= LONGEST_GAP:
            why = (
                f"more than {LONGEST_GAP} positions" if low <= high else "the first number is the larger one"
            )
            raise DataError(f"{_called(record.name)} holds the gap {found[0]}: {why}")
        pieces.append(record.text[behind : found.start()])
        gaps.append((low, high))
        behind = found.end()
    pieces.append(record.text[behind:])
    _require_possible(record.name, "".join(pieces), is_gapped=any(high for _, high in gaps))
    template = Template(record.name, tuple(pieces), tuple(gaps))
    if not template.shortest:
        raise DataError(
            f"{_called(record.name)} may become a protein without residues",
            hint="begin one of its gaps at 1, as {1-20}_",
        )
    return template


def _require_possible(name: str, text: str, *, is_gapped: bool) -> None:
    if gap := _GAP_WITHOUT_LETTER.search(text):
        raise DataError(f"{_called(name)} holds {gap[0]} without _ behind it", hint=f"write {gap[0]}_")
    if "{" in text or "}" in text:
        raise DataError(
            f"{_called(name)} holds a brace that is no gap",
            hint="5 to 20 free positions are {5-20}_, ten {10}_",
        )
    kept = FREE + GIVEN + GIVEN.lower()
    if not is_gapped and not any(letter in FREE for letter in text):
        raise DataError(f"{_called(name)} has no free position", hint="mark them with _ or ?")
    if strange := dict.fromkeys(letter for letter in text if letter not in kept):
        raise DataError(
            f"{_called(name)} holds {', '.join(strange)}: no amino acid that could be kept",
            hint="mark the position free with _ or ?, or take it out",
        )


def _called(name: str) -> str:
    return "the template" if name == _ONLY else f"template '{name}'"
