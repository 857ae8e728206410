"""Cluster tables (`representative<tab>member`, as MMseqs2 writes them) that keep relatives on one side of the split."""

import os
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from sedd.data.fasta import first_line, first_word, line_text, tsv_hint
from sedd.data.files import NpyWriter
from sedd.data.progress import Progress, ignore_progress
from sedd.errors import DataError
from sedd.units import counted, format_share

_LINES = 1 << 16
_BUCKET_BITS = 6  # a table of 60 M members is sorted by 8 MB at a time
_SIDE, _ALIAS, _NAME = np.uint64(1), np.uint64(2), ~np.uint64(3)
"""The bits of an entry: is the cluster in validation; is the name only MMseqs2's part of what the table says; and the
hash of the name without its last two bits."""
_AT_ONCE = 1 << 20
_COUNTED_BYTES = 1 << 26
"""Of a table, some millions of names: all of a larger one are not counted."""
_MMSEQS_FIELDS = {
    **dict.fromkeys((b"cl|", b"sp|", b"tr|", b"gb|", b"ref|", b"pdb|", b"bbs|", b"lcl|"), 1),
    **dict.fromkeys((b"pir||", b"prf||", b"gnl|", b"pat|"), 2),
    b"gi|": 3,
}
"""Beginnings of headers in which MMseqs2 takes a field between bars for the name, and the number of that field."""


def mmseqs_name(word: bytes) -> bytes:
    """What MMseqs2 calls a sequence whose header begins with this word: `W0FSK4` for `tr|W0FSK4|W0FSK4_9FLAV`.

    The fields of a databank that it knows; any other word as it is, as `sample0|contig_49|orf_0`. Source: its
    `Util::getFastaHeaderPosition`.
    """
    word = word.removeprefix(b"consensus_")
    for beginning, number in _MMSEQS_FIELDS.items():
        if word.startswith(beginning):
            fields = word.split(b"|")
            return fields[number] if len(fields) > number else word
    return word.removeprefix(b"uc").split(b"|")[0] if word.startswith(b"uc") else word


@dataclass(frozen=True, slots=True, kw_only=True)
class TableUse:
    """How a table fitted the sequences that were looked up in it."""

    members: int
    """Different names in the table."""
    found: int
    """Of these, how many were the name of a sequence."""
    repeated: int
    """Lines whose member had been named by a line before."""


def require_cluster_table(source: Path) -> None:
    """Raise DataError unless the first line has two tab-separated columns: what is seen without reading the table."""
    list(_parse_any([first_line(source)], source, 0, 0))


def write_cluster_table(source: Path, table: Path, limit: int, progress: Progress = ignore_progress) -> None:
    """Turn a cluster TSV into a row of entries, uint64; a cluster is in validation if its hash is below `limit`.

    Takes 8 bytes a member; is sorted in buckets, so with little memory. `progress` is called with 0.

    Raises:
        DataError: missing, empty, or not two tab-separated columns.
    """
    _write_entries(source, table, limit, progress)
    # A byte an entry, beside the table: 1 when a sequence of that name came. Allocated now: a disk that is full when
    # a mapped page is written kills the process.
    with _hits_of(table).open("wb") as hits:
        os.posix_fallocate(hits.fileno(), 0, len(np.load(table, mmap_mode="r")))


def _hits_of(table: Path) -> Path:
    return table.with_suffix(".hits")


def _write_entries(source: Path, table: Path, limit: int, progress: Progress) -> None:
    buckets = [table.with_name(f"{table.name}-{number}") for number in range(1 << _BUCKET_BITS)]
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in buckets]
        for entries in _parse(source, np.uint64(limit)):
            progress(0)
            bucket_of = entries >> np.uint64(64 - _BUCKET_BITS)
            order = np.argsort(bucket_of, kind="stable")  # stable: of equal members the first counts
            edges = np.searchsorted(bucket_of[order], np.arange(len(files) + 1, dtype=np.uint64)).tolist()
            for file, low, high in zip(files, edges, edges[1:], strict=False):
                file.write(entries[order[low:high]].tobytes())
    with NpyWriter(table, "<u8") as writer:
        for path in buckets:
            progress(0)
            entries = np.fromfile(path, np.uint64)
            writer.write(entries[np.argsort(entries & ~_SIDE, kind="stable")])
            path.unlink()


def _parse(source: Path, limit: np.uint64) -> Iterator[NDArray[np.uint64]]:
    """Entries, some lines at a time."""
    number = 0
    try:
        with source.open("rb") as file:
            while lines := list(islice(file, _LINES)):
                yield _parse_lines(lines, source, number, limit)
                number += len(lines)
    except OSError as e:
        raise DataError(f"{source} cannot be read: {e.strerror}") from e
    if not number:
        raise DataError(f"{source} is empty", hint="a cluster table has lines of: representative<tab>member")


def _parse_lines(lines: list[bytes], source: Path, before: int, limit: np.uint64) -> NDArray[np.uint64]:
    """uint64 [entries]: one for the name of each member; a second one where MMseqs2 would give it a shorter name."""
    names = b"".join(lines).split()
    if len(names) == 2 * len(lines) and all(map(_is_plain, lines)):
        hashes = np.fromiter(map(xxhash.xxh3_64_intdigest, names), np.uint64, len(names))
        return (hashes[1::2] & _NAME) | (hashes[::2] < limit)
    return np.array(list(_parse_any(lines, source, before, int(limit))), np.uint64)


def _is_plain(line: bytes) -> bool:
    """Two columns without words or `|` in them, as MMseqs2 writes them: takes a fifth of the time of any other."""
    return line.count(b"\t") == 1 and b"|" not in line and b" " not in line


def _parse_any(lines: list[bytes], source: Path, before: int, limit: int) -> Iterator[int]:
    for row, line in enumerate(lines):
        representative, _, member = line.rstrip(b"\r\n").partition(b"\t")
        if not representative or not member or b"\t" in member:
            raise DataError(
                f"{source}:{before + row + 1}: not two tab-separated columns: {line_text(line)}",
                hint=tsv_hint(line, "a cluster table has lines of: representative<tab>member"),
            )
        word, cluster = first_word(member), first_word(representative)
        side = xxhash.xxh3_64_intdigest(cluster) < limit
        yield xxhash.xxh3_64_intdigest(word) & int(_NAME) | side
        # A word without bars is what MMseqs2 made of a header.
        if b"|" in word and (short := mmseqs_name(word)) != word:
            yield xxhash.xxh3_64_intdigest(short) & int(_NAME) | int(_ALIAS) | side


def table_problem(use: TableUse, *, sequences: int, unclustered: int) -> str | None:
    """Why a split by this table would not keep relatives together, or None. Of `sequences`, some have no cluster."""
    named = sequences - unclustered
    if not named:
        return "names none of the sequences"
    if named > 2 * use.found:
        return f"cannot tell the sequences apart: {named:,} of them share {counted(use.found, 'name')}"
    if use.repeated > use.members:
        return f"names most of its {use.members:,} members more than once"
    return None


def table_notes(use: TableUse, *, sequences: int, unclustered: int, dropped: int) -> list[str]:
    """What a reader of the split should know: shares of the sequences and of the table that do not fit the other.

    `dropped` records were not looked up, so that the table may name as many in vain.
    """
    named = sequences - unclustered
    unused = use.members - use.found - dropped
    counts = (
        (unclustered, sequences, "sequences are not in the cluster table, and were split without it"),
        (named - use.found, named, "sequences have a name in the cluster table that another has, too"),
        (
            use.repeated,
            use.repeated + use.members,
            "lines of the cluster table name a member again: the first counts",
        ),
        (unused, use.members, "members of the cluster table are the name of no sequence"),
    )
    return [
        f"{count:,} of {total:,} ({format_share(count, total)}) {what}"
        for count, total, what in counts
        if count > total / 100
    ]


def count_repeats(source: Path) -> tuple[int, int]:
    """Lines of a cluster table whose first column has a name that an earlier line has there; the same of the second.

    MMseqs2 names a representative once for each of its members, and a member once. Of a large table the names of
    some hashes stand for all, so that they fit in memory.
    """
    keep = (1 << 64) // max(1, source.stat().st_size // _COUNTED_BYTES)
    seen: tuple[set[int], set[int]] = (set(), set())
    lines = [0, 0]
    with source.open("rb") as file:
        for line in file:
            for column, cell in enumerate(line.split(b"\t")[:2]):
                if (number := xxhash.xxh3_64_intdigest(first_word(cell))) < keep:
                    seen[column].add(number)
                    lines[column] += 1
    return lines[0] - len(seen[0]), lines[1] - len(seen[1])


class ClusterTable:
    """A table by `write_cluster_table`, open for look-ups; all processes of a build share the pages of its file."""

    def __init__(self, table: Path) -> None:
        self._members = np.load(table, mmap_mode="r").view(np.ndarray)
        self._hits = np.memmap(_hits_of(table), np.uint8, "r+").view(np.ndarray)

    def sides(self, names: list[bytes], otherwise: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int]:
        """Whether each sequence's cluster is in validation, `otherwise` where there is none; how many have none.

        `names` are the first words of headers. Each is looked up whole, and then as MMseqs2 would call it.
        """
        sides, found = otherwise.copy(), np.zeros(len(names), np.bool_)
        self._look_up(names, np.arange(len(names)), sides, found)
        short = {i: name for i in np.flatnonzero(~found) if (name := mmseqs_name(names[i])) != names[i]}
        self._look_up(list(short.values()), np.array(list(short), np.int64), sides, found)
        return sides, int((~found).sum())

    def _look_up(
        self, names: list[bytes], rows: NDArray[np.int64], sides: NDArray[np.bool_], found: NDArray[np.bool_]
    ) -> None:
        """Fill in the `rows` of `sides` and `found` of the names that the table has."""
        wanted = np.fromiter(map(xxhash.xxh3_64_intdigest, names), np.uint64, len(names)) & _NAME
        places = np.minimum(np.searchsorted(self._members, wanted), len(self._members) - 1)
        entries = self._members[places]
        here = entries & _NAME == wanted
        self._hits[places[here]] = 1
        sides[rows[here]] = entries[here] & _SIDE == _SIDE
        found[rows[here]] = True

    def use(self) -> TableUse:
        """How much of the table was found, by all processes that looked something up."""
        members = found = lines = 0
        for first in range(0, len(self._members), _AT_ONCE):
            names = self._members[first : first + _AT_ONCE] & ~_SIDE
            before = self._members[first - 1] & ~_SIDE if first else ~names[0]
            is_member = names & _ALIAS == 0
            members += int((is_member & (np.diff(names, prepend=before) != 0)).sum())
            lines += int(is_member.sum())
            found += int(self._hits[first : first + _AT_ONCE].sum(dtype=np.int64))
        return TableUse(members=members, found=min(found, members), repeated=lines - members)
