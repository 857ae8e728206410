"""Read FASTA record by record, for the few sequences of an evaluation or the templates of an infill."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sedd.data.alphabet import GAP_LETTERS, encode
from sedd.data.encode import lines_of_words, require_protein
from sedd.data.fasta import SpanReader, is_gzip, read_blocks, require_readable, spans
from sedd.errors import DataError


@dataclass(frozen=True, slots=True)
class Record:
    """One sequence as it stands in the file, its lines joined."""

    name: str
    """First word of the header."""
    text: str
    words: tuple[str, ...] = ()
    """Lines of it that look like text, not like residues."""
    file: Path | None = None

    @property
    def where(self) -> str:
        """How a message names it: with its file, since several may be given."""
        return f"{self.file}: '{self.name}'" if self.file else f"'{self.name}'"


def read_records(path: Path, *, allow_empty: bool = False) -> Iterator[Record]:
    """The records of a plain or gzip FASTA file in their order; without sequence only if `allow_empty`.

    Raises:
        DataError: the file cannot be read, is not FASTA, is of nucleotides, or has a record without a sequence.
    """
    require_readable(path)
    for span in spans(path):
        with SpanReader(span, _ignore) as reader:
            for block in read_blocks(reader, path, gzipped=is_gzip(path)):
                require_protein(block, str(path))
                yield from _parse(block, path, allow_empty)


def require_own_names(records: Iterable[Record]) -> None:
    """Raise DataError if two records share a name: nobody could tell their results apart."""
    seen: set[str] = set()
    for record in records:
        if record.name in seen:
            of_file = f"{record.file}: " if record.file else ""
            raise DataError(
                f"{of_file}two records are called '{record.name}'",
                hint="the first word of a header is the record's name: give each one of its own",
            )
        seen.add(record.name)


def residues_of(record: Record) -> NDArray[np.uint8]:
    """Tokens of a protein as training data holds them: without gaps. Raises: DataError: a letter that is none."""
    try:
        return encode(_without_gaps(record))
    except DataError as e:
        raise DataError(f"{record.where}: {e.message}") from e


def count_final_stops(record: Record) -> int:
    """Stops (*) at the end of a protein, which `residues_of` removes."""
    text = _without_gaps(record)
    return len(text) - len(text.rstrip("*"))


def _without_gaps(record: Record) -> str:
    return record.text.translate(dict.fromkeys(map(ord, GAP_LETTERS)))


def _parse(block: bytes, path: Path, allow_empty: bool) -> Iterator[Record]:
    for record in (b"\n" + block).split(b"\n>")[1:]:
        header, _, body = record.partition(b"\n")
        name = header.decode("utf-8", "replace").split(maxsplit=1)
        text = b"".join(body.split()).decode("utf-8", "replace")
        if not text and not allow_empty:
            raise DataError(f"{path}: '>{name[0] if name else ''}' has no sequence")
        yield Record(name[0] if name else "unnamed", text, tuple(lines_of_words(body)), path)


def _ignore(read_bytes: int) -> None:
    pass
