"""Decide which repeated sequences of a store to drop, from all hashes, at one byte of memory each."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sedd.data.counters import counter_key, random_bits
from sedd.data.files import read_pieces
from sedd.data.progress import Progress, ignore_progress

_BUCKET = 1 << 23  # hashes sorted at once: some 200 MB


def find_duplicates(files: list[Path], count: int, progress: Progress = ignore_progress) -> NDArray[np.bool_]:
    """Over the hashes in all files, one after the other: which have occurred before.

    Equal hashes are taken for equal sequences: among 70 M, two differ nevertheless in one store of 7,500.
    """
    repeated = np.zeros(count, np.bool_)
    buckets = max(1, -(-count // _BUCKET))
    for bucket in range(buckets):
        progress(0)
        hashes, where = _bucket(files, bucket, buckets)
        there = _occur_more_than_once(hashes)
        hashes, where = hashes[there], where[there]
        order = np.argsort(hashes, kind="stable")  # stable: of equal ones the first comes first
        again = np.zeros(len(order), np.bool_)
        ordered = hashes[order]
        again[1:] = ordered[1:] == ordered[:-1]
        repeated[where[order[again]]] = True
    return repeated


def _occur_more_than_once(hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Positions of the hashes that are there twice or more: few, as a rule. To sort alone is quicker than to rank."""
    ordered = np.sort(hashes)
    values = np.unique(ordered[1:][ordered[1:] == ordered[:-1]])
    if not len(values):
        return np.empty(0, np.int64)
    nearest = np.minimum(np.searchsorted(values, hashes), len(values) - 1)
    return np.flatnonzero(values[nearest] == hashes)


def _bucket(files: list[Path], bucket: int, buckets: int) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """The hashes of one residue class, and their positions."""
    if buckets == 1:
        every = np.concatenate(
            [np.empty(0, np.uint64), *(p for f in files for p in read_pieces(f, np.uint64))]
        )
        return every, np.arange(len(every))
    hashes, where, first = [np.empty(0, np.uint64)], [np.empty(0, np.int64)], 0
    for file in files:
        for piece in read_pieces(file, np.uint64):
            here = np.flatnonzero(piece % np.uint64(buckets) == bucket)
            hashes.append(piece[here])
            where.append(here + first)
            first += len(piece)
    return np.concatenate(hashes), np.concatenate(where)


def find_unsampled(
    files: list[Path], dropped: NDArray[np.bool_], *, sample: int, seed: int
) -> NDArray[np.bool_]:
    """Which of the sequences not `dropped` lie outside a uniform sample of `sample` of them.

    The sample is those with the smallest random numbers, which are a function of the seed and the hash: it
    does not depend on the order of the input, and a larger sample holds the smaller one.
    """
    if int((~dropped).sum()) <= sample:
        return np.zeros_like(dropped)
    counts = np.zeros(1 << 16, np.int64)
    for where, ranks in _ranks(files, seed):
        counts += np.bincount((ranks >> np.uint64(48))[~dropped[where]].astype(np.int64), minlength=1 << 16)
    # The sample's limit lies in the first bin at which more than `sample` sequences have been counted.
    limit_bin = int(np.searchsorted(np.cumsum(counts), sample, side="right"))
    below = int(counts[:limit_bin].sum())
    in_bin = [
        ranks[~dropped[where] & (ranks >> np.uint64(48) == limit_bin)] for where, ranks in _ranks(files, seed)
    ]
    limit = np.sort(np.concatenate(in_bin))[sample - below]
    outside = np.zeros_like(dropped)
    for where, ranks in _ranks(files, seed):
        outside[where] = ~dropped[where] & (ranks >= limit)
    return outside


def _ranks(files: list[Path], seed: int) -> Iterator[tuple[slice, NDArray[np.uint64]]]:
    """A random number for each hash, in pieces, and where in the row of all files each piece lies."""
    key, first = counter_key("sample", seed), 0
    for file in files:
        for piece in read_pieces(file, np.uint64):
            yield slice(first, first + len(piece)), random_bits(key, piece)
            first += len(piece)
