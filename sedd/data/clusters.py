"""Cluster tables (`representative<tab>member`, by MMseqs2): relatives stay on one side of the split."""

from itertools import islice
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from sedd.data.fasta import accession
from sedd.errors import DataError

_LINES = 1 << 16


def write_cluster_table(source: Path, table: Path) -> None:
    """Turn a cluster TSV into two uint64 rows, sorted by the first: hashes of members, of representatives.

    Takes 16 bytes a member, and is mapped, so that all processes of a build share one copy.

    Raises:
        DataError: missing, empty, or not two tab-separated columns.
    """
    rows = []
    try:
        with source.open("rb") as file:
            number = 0
            while lines := list(islice(file, _LINES)):
                rows.append(_parse_lines(lines, source, number))
                number += len(lines)
    except OSError as e:
        raise DataError(f"{source} cannot be read: {e.strerror}") from e
    if not rows:
        raise DataError(f"{source} is empty", hint="a cluster table has lines of: representative<tab>member")
    members = np.concatenate(rows, axis=1)
    np.save(table, members[:, np.argsort(members[0], kind="stable")])


def _parse_lines(lines: list[bytes], source: Path, before: int) -> NDArray[np.uint64]:
    hashes = np.empty((2, len(lines)), np.uint64)
    for column, line in enumerate(lines):
        representative, tab, member = line.rstrip(b"\r\n").partition(b"\t")
        if not tab or not member or b"\t" in member:
            raise DataError(
                f"{source}:{before + column + 1}: not two tab-separated columns: {line[:40]!r}",
                hint="a cluster table has lines of: representative<tab>member",
            )
        hashes[0, column] = xxhash.xxh3_64_intdigest(accession(member))
        hashes[1, column] = xxhash.xxh3_64_intdigest(accession(representative))
    return hashes


class ClusterTable:
    """A table by `write_cluster_table`, open for look-ups."""

    def __init__(self, path: Path) -> None:
        self._members, self._clusters = np.load(path, mmap_mode="r")

    def keys(self, accessions: list[bytes], otherwise: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], int]:
        """The cluster's hash of each accession, `otherwise` where there is none, and how many have none."""
        wanted = np.array([xxhash.xxh3_64_intdigest(a) for a in accessions], np.uint64)
        where = np.minimum(np.searchsorted(self._members, wanted), len(self._members) - 1)
        found = self._members[where] == wanted
        return np.where(found, self._clusters[where], otherwise), int((~found).sum())
