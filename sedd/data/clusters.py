"""Cluster tables (`representative<tab>member`, by MMseqs2): relatives stay on one side of the split."""

from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from sedd.data.fasta import accession
from sedd.data.files import NpyWriter
from sedd.data.progress import Progress, ignore_progress
from sedd.errors import DataError

_LINES = 1 << 16
_BUCKET_BITS = 6  # a table of 60 M members is sorted by 8 MB at a time
_SIDE, _NAME = np.uint64(1), ~np.uint64(1)
"""The bits of an entry: is the cluster in validation, and the hash of the member's accession without its last bit."""


def write_cluster_table(source: Path, table: Path, limit: int, progress: Progress = ignore_progress) -> None:
    """Turn a cluster TSV into a row of entries, uint64; a cluster is in validation if its hash is below `limit`.

    Takes 8 bytes a member; is sorted in buckets, so with little memory. `progress` is called with 0.

    Raises:
        DataError: missing, empty, or not two tab-separated columns.
    """
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
            writer.write(entries[np.argsort(entries & _NAME, kind="stable")])
            path.unlink()


def _parse(source: Path, limit: np.uint64) -> Iterator[NDArray[np.uint64]]:
    """Entries, some lines at a time."""
    number = 0
    try:
        with source.open("rb") as file:
            while lines := list(islice(file, _LINES)):
                members, clusters = _parse_lines(lines, source, number)
                yield (members & _NAME) | (clusters < limit)
                number += len(lines)
    except OSError as e:
        raise DataError(f"{source} cannot be read: {e.strerror}") from e
    if not number:
        raise DataError(f"{source} is empty", hint="a cluster table has lines of: representative<tab>member")


def _parse_lines(lines: list[bytes], source: Path, before: int) -> NDArray[np.uint64]:
    """uint64 [2, lines]: hashes of members, and of their representatives."""
    names = b"".join(lines).split()
    if len(names) == 2 * len(lines) and all(map(_is_plain, lines)):
        hashes = np.fromiter(map(xxhash.xxh3_64_intdigest, names), np.uint64, len(names))
        return np.stack([hashes[1::2], hashes[::2]])
    return _parse_any(lines, source, before)


def _is_plain(line: bytes) -> bool:
    """Two columns without words or `|` in them, as MMseqs2 writes them: takes a fifth of the time of any other."""
    return line.count(b"\t") == 1 and b"|" not in line and b" " not in line


def _parse_any(lines: list[bytes], source: Path, before: int) -> NDArray[np.uint64]:
    hashes = np.empty((2, len(lines)), np.uint64)
    for row, line in enumerate(lines):
        representative, _, member = line.rstrip(b"\r\n").partition(b"\t")
        if not representative or not member or b"\t" in member:
            raise DataError(
                f"{source}:{before + row + 1}: not two tab-separated columns: {line[:40]!r}",
                hint="a cluster table has lines of: representative<tab>member",
            )
        hashes[:, row] = _hash(member), _hash(representative)
    return hashes


def _hash(name: bytes) -> int:
    return xxhash.xxh3_64_intdigest(accession(name))


class ClusterTable:
    """A table by `write_cluster_table`, open for look-ups; all processes of a build share the pages of its file."""

    def __init__(self, table: Path) -> None:
        self._members = np.load(table, mmap_mode="r").view(np.ndarray)

    def sides(self, accessions: list[bytes], otherwise: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], int]:
        """Whether each accession's cluster is in validation, `otherwise` where there is none; how many have none."""
        wanted = np.fromiter(map(xxhash.xxh3_64_intdigest, accessions), np.uint64, len(accessions)) & _NAME
        entries = self._members[np.minimum(np.searchsorted(self._members, wanted), len(self._members) - 1)]
        found = entries & _NAME == wanted
        return np.where(found, entries & _SIDE == _SIDE, otherwise), int((~found).sum())
