"""Cluster tables (`representative<tab>member`, by MMseqs2): relatives stay on one side of the split."""

import mmap
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import islice
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from sedd.data.fasta import accession
from sedd.data.files import HEADER_BYTES, NpyWriter
from sedd.data.progress import Progress, ignore_progress
from sedd.errors import DataError

_LINES = 1 << 16
_BUCKET_BITS = 6  # a table of 60 M members is sorted by 16 MB at a time
_MEMBERS, _CLUSTERS = "members.npy", "clusters.npy"


def write_cluster_table(source: Path, folder: Path, progress: Progress = ignore_progress) -> None:
    """Turn a cluster TSV into two files of uint64, sorted by the first: hashes of members, of representatives.

    Takes 16 bytes a member on the disk, and little memory: it is sorted in buckets. `progress` is called with 0.

    Raises:
        DataError: missing, empty, or not two tab-separated columns.
    """
    folder.mkdir()
    buckets = [folder / f"bucket-{number}" for number in range(1 << _BUCKET_BITS)]
    with ExitStack() as stack:
        files = [stack.enter_context(path.open("wb")) for path in buckets]
        for pairs in _parse(source):
            progress(0)
            bucket_of = pairs[:, 0] >> np.uint64(64 - _BUCKET_BITS)
            order = np.argsort(bucket_of, kind="stable")  # stable: of equal members the first counts
            edges = np.searchsorted(bucket_of[order], np.arange(len(files) + 1, dtype=np.uint64)).tolist()
            for file, low, high in zip(files, edges, edges[1:], strict=False):
                file.write(pairs[order[low:high]].tobytes())
    with NpyWriter(folder / _MEMBERS, "<u8") as members, NpyWriter(folder / _CLUSTERS, "<u8") as clusters:
        for path in buckets:
            progress(0)
            pairs = np.fromfile(path, np.uint64).reshape(-1, 2)
            pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
            members.write(pairs[:, 0])
            clusters.write(pairs[:, 1])
            path.unlink()


def _parse(source: Path) -> Iterator[NDArray[np.uint64]]:
    """uint64 [lines, 2]: hashes of member and representative, some lines at a time."""
    number = 0
    try:
        with source.open("rb") as file:
            while lines := list(islice(file, _LINES)):
                yield _parse_lines(lines, source, number)
                number += len(lines)
    except OSError as e:
        raise DataError(f"{source} cannot be read: {e.strerror}") from e
    if not number:
        raise DataError(f"{source} is empty", hint="a cluster table has lines of: representative<tab>member")


def _parse_lines(lines: list[bytes], source: Path, before: int) -> NDArray[np.uint64]:
    hashes = np.empty((len(lines), 2), np.uint64)
    known, cluster = b"", 0
    for row, line in enumerate(lines):
        representative, tab, member = line.rstrip(b"\r\n").partition(b"\t")
        if not tab or not member or b"\t" in member:
            raise DataError(
                f"{source}:{before + row + 1}: not two tab-separated columns: {line[:40]!r}",
                hint="a cluster table has lines of: representative<tab>member",
            )
        if representative != known or not row:  # as a rule the members of a cluster follow one another
            known, cluster = representative, xxhash.xxh3_64_intdigest(accession(representative))
        hashes[row] = xxhash.xxh3_64_intdigest(accession(member)), cluster
    return hashes


class ClusterTable:
    """A table by `write_cluster_table`, open for look-ups; all processes of a build share the pages of its files."""

    def __init__(self, folder: Path) -> None:
        self._maps = [_map(folder / name) for name in (_MEMBERS, _CLUSTERS)]
        self._members, self._clusters = (
            np.frombuffer(mapped, np.uint64, offset=HEADER_BYTES) for mapped in self._maps
        )

    def keys(self, accessions: list[bytes], otherwise: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], int]:
        """The cluster's hash of each accession, `otherwise` where there is none, and how many have none."""
        wanted = np.array([xxhash.xxh3_64_intdigest(a) for a in accessions], np.uint64)
        where = np.minimum(np.searchsorted(self._members, wanted), len(self._members) - 1)
        found = self._members[where] == wanted
        keys = np.where(found, self._clusters[where], otherwise)
        for mapped in self._maps:
            mapped.madvise(
                mmap.MADV_DONTNEED
            )  # else the table would be resident in the end: a GB for 60 M members
        return keys, int((~found).sum())


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
