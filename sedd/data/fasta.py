"""Read FASTA files, plain or gzip, as blocks of whole records; at most one block is in memory."""

import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import IO, TYPE_CHECKING

import xxhash
from isal import igzip, isal_zlib

from sedd.data.legacy_pt import is_older_file
from sedd.errors import (
    HEAD_BYTES,
    DataError,
    MissingDataError,
    permission_hint,
    why_binary,
    why_unreadable,
)

if TYPE_CHECKING:
    from typing_extensions import Buffer

BLOCK_BYTES = 1 << 19  # small enough to stay in a core's cache, large enough that calls do not count
SPAN_BYTES = 1 << 27
_LONGEST_RECORD_BYTES = 1 << 26
_LONGEST_HEADER_BYTES = 1 << 20
Halves = tuple[bytes, memoryview]
"""A block as what was left over of one piece of a file, and what the next begins with."""


@dataclass(frozen=True, slots=True)
class Span:
    """Bytes start..stop of a file; in a plain one they hold whole records, and can be read on their own."""

    path: Path
    start: int
    stop: int


class SpanReader(io.RawIOBase):
    """A file object over one span that fingerprints what it reads and reports how much."""

    def __init__(self, span: Span, progress: Callable[[int], None]) -> None:
        self._file = span.path.open("rb", buffering=0)
        self._file.seek(span.start)
        self._left = span.stop - span.start
        self._progress = progress
        self._hash = xxhash.xxh3_128()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "Buffer", /) -> int:
        view = memoryview(buffer)[: self._left]
        count = self._file.readinto(view) or 0
        self._account(view[:count])
        return count

    def read(self, size: int = -1, /) -> bytes:
        """As `readinto`, without the copy that io.RawIOBase makes."""
        piece = self._file.read(self._left if size < 0 else min(size, self._left)) or b""
        self._account(piece)
        return piece

    def _account(self, piece: bytes | memoryview) -> None:
        self._hash.update(piece)
        self._left -= len(piece)
        self._progress(len(piece))

    def fingerprint(self) -> str:
        """XXH3-128 of the span; reads what has not been read."""
        buffer = bytearray(1 << 20)
        while self.readinto(buffer):
            pass
        return str(self._hash.hexdigest())

    def close(self) -> None:
        self._file.close()
        super().close()


def is_gzip(path: Path) -> bool:
    """Whether the content, whatever its name, is gzip."""
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def looks_like_fasta(path: Path) -> bool:
    """Whether a file begins as FASTA does, or its name ends so, with `.gz` or without."""
    if path.name.removesuffix(".gz").endswith((".fasta", ".fa", ".faa", ".fas")):
        return True
    try:
        with path.open("rb") as file:
            return file.read(1) == b">"
    except OSError:
        return False


def spans(path: Path, *, span_bytes: int = SPAN_BYTES) -> list[Span]:
    """A plain file cut at records into spans of about `span_bytes`; other files, which have no cuts, whole."""
    size = path.stat().st_size
    if is_gzip(path) or is_older_file(path):
        return [Span(path, 0, size)]
    with path.open("rb") as file:
        cuts = {_record_start(file, offset) for offset in range(span_bytes, size, span_bytes)}
    edges = [0, *sorted(cuts - {0, size}), size]
    return [Span(path, start, stop) for start, stop in pairwise(edges)]


def _record_start(file: IO[bytes], offset: int) -> int:
    """The first `>` at the start of a line at or after `offset`, or the end of the file."""
    file.seek(offset - 1)
    where, tail = offset - 1, b""
    while piece := file.read(BLOCK_BYTES):
        found = (tail + piece).find(b"\n>")
        if found >= 0:
            return where - len(tail) + found + 1
        where, tail = where + len(piece), piece[-1:]
    return where


def read_blocks(reader: SpanReader, path: Path, *, gzipped: bool) -> Iterator[bytes]:
    """Whole records, some 500 kB at a time, each block from a `>` at the start of a line to before the next.

    Raises:
        DataError: not FASTA, empty, or a gzip file that is cut short or damaged.
    """
    return map(b"".join, read_halves(reader, path, gzipped=gzipped))


def read_halves(reader: SpanReader, path: Path, *, gzipped: bool) -> Iterator[Halves]:
    """As `read_blocks`, each block in two: for who copies it anyway.

    Raises:
        DataError: as `read_blocks`.
    """
    pieces = _inflated(reader, path) if gzipped else iter(lambda: reader.read(BLOCK_BYTES), b"")
    carry = b""
    for piece in _from_first_record(pieces, path):
        cut = piece.rfind(b"\n>") + 1
        if not cut:  # at most one record begins in it: at its start
            carry, piece = b"", carry + piece
            cut = piece.rfind(b"\n>") + 1
        if cut:
            yield carry, memoryview(piece)[:cut]
        carry = piece[cut:]
        if len(carry) > _LONGEST_RECORD_BYTES:
            raise DataError(
                f"{path} holds a record of more than {_LONGEST_RECORD_BYTES >> 20} MiB: no protein is so long"
            )
    if carry:
        yield carry, memoryview(b"")


def _inflated(reader: SpanReader, path: Path) -> Iterator[bytes]:
    try:
        with igzip.IGzipFile(fileobj=reader) as file:  # type: ignore[no-untyped-call]  # isal has no types
            while piece := file.read(BLOCK_BYTES):
                yield piece
    except EOFError as e:
        raise DataError(
            f"{path} is cut short: its gzip stream has no end", hint="download or copy it again"
        ) from e
    except (igzip.BadGzipFile, isal_zlib.IsalError) as e:  # type: ignore[misc]  # isal's types say object
        raise DataError(f"{path} is damaged: {e}", hint="download or copy it again") from e


def _from_first_record(pieces: Iterator[bytes], path: Path) -> Iterator[bytes]:
    """The same pieces without a byte order mark or blank lines before the first record."""
    start = b""
    pieces = _with_line_feeds(pieces)
    for piece in pieces:
        start = (start + piece).removeprefix(b"\xef\xbb\xbf").lstrip()
        if start:
            break
    if not start:
        raise DataError(f"{path} is empty")
    if not start.startswith(b">"):
        raise _not_fasta(path, start)
    yield start
    yield from pieces


def _with_line_feeds(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The same pieces; those of a file whose lines end with CR alone, as on the first Macs, with LF in its place."""
    first = next(pieces, b"")
    has_cr_alone = b"\r" in first and b"\n" not in first
    yield first.replace(b"\r", b"\n") if has_cr_alone else first
    for piece in pieces:
        yield piece.replace(b"\r", b"\n") if has_cr_alone else piece


def _not_fasta(path: Path, start: bytes) -> DataError:
    if found := why_binary(path, start[:HEAD_BYTES]):
        return DataError(f"{path} is {found[0]}, not FASTA", hint=found[1])
    line = start.split(b"\n", 1)[0][:40].decode("utf-8", "replace").strip()
    return DataError(f"{path} is not FASTA: it starts with {line!r} instead of a '>' line")


def ends_open(path: Path) -> bool:
    """Whether a plain file lacks its last line end, as one that was cut short does."""
    if is_gzip(path) or is_older_file(path):
        return False
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) not in b"\r\n"


def first_word(header: bytes) -> bytes:
    """`tr|W0FSK4|W0FSK4_9FLAV` of `tr|W0FSK4|W0FSK4_9FLAV Genome polyprotein`; nothing of a blank header."""
    words = header.split(None, 1)
    return words[0] if words else b""


def line_text(line: bytes) -> str:
    """The start of a line for a message, in quotes; a tab is shown as `\\t`."""
    return repr(line.decode("utf-8", "replace").strip()[:40])


def tsv_hint(line: bytes, hint: str) -> str:
    """The hint about a line that has not the columns of a TSV; before it what they are separated by instead."""
    if b"\t" in line:
        return hint
    seen = next((name for mark, name in _SEPARATORS.items() if mark in line.strip()), None)
    return f"columns are separated by {seen} here; {hint}" if seen else hint


_SEPARATORS = {b";": "semicolons", b",": "commas", b" ": "spaces"}
"""The semicolon first: with it, a comma is that of a number."""


def require_text(path: Path) -> None:
    """As `require_readable`, of a table; also raise DataError where it is compressed, UTF-16 or binary."""
    require_readable(path)
    with path.open("rb") as file:
        if found := why_binary(path, file.read(HEAD_BYTES)):
            raise DataError(
                f"{path} is {found[0]}, not a table", hint=found[1] or "write the table as text: TSV"
            )


def first_line(path: Path) -> bytes:
    """Of a table; the beginning of a line that is longer than any header. Raises: DataError."""
    try:
        with path.open("rb") as file:
            return file.readline(_LONGEST_HEADER_BYTES)
    except OSError as e:
        raise DataError(f"{path} cannot be read: {e.strerror}") from e


def require_readable(path: Path) -> None:
    """Raise MissingDataError unless `path` is a file that can be read, DataError when it is empty."""
    refuse_stdin(path)
    try:
        if not path.exists():
            raise MissingDataError(f"{path} does not exist")
    except PermissionError as e:  # of a folder above it
        what, hint = why_unreadable(path, e)
        raise MissingDataError(f"{path} {what}", hint=hint) from e
    if not path.is_file():
        raise _not_a_file(path)
    if not os.access(path, os.R_OK):
        raise MissingDataError(f"{path} may not be read", hint=permission_hint(path))
    if not path.stat().st_size:
        raise DataError(f"{path} is empty")


def refuse_stdin(path: Path) -> None:
    """Raise MissingDataError for `-`, unless a file is called so."""
    if str(path) == "-" and not path.exists():
        raise MissingDataError("cannot read standard input (-)", hint="give a file")


def _not_a_file(path: Path) -> MissingDataError:
    if path.is_dir():
        endings = (".fasta", ".fa", ".faa", ".fas", ".fasta.gz", ".fa.gz", ".faa.gz", ".fas.gz")
        seen = next((ending for ending in endings if any(path.glob(f"*{ending}"))), None)
        files = f"give the FASTA files in it: {path}/*{seen}" if seen else "give a file in it"
        return MissingDataError(f"{path} is a folder, not a file", hint=files)
    return MissingDataError(
        f"{path} is not a file: input is read more than once, which a pipe does not allow",
        hint="write it to a file first, and give that",
    )
