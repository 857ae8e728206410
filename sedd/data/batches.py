"""Packed batches as a pure function of (seed, micro-batch index), whatever the ranks and interruptions.

An epoch is every sequence of the split once, in an order of its own, each longer one cut to a window of
`max_length` residues that lies elsewhere in every epoch. Micro-batch m is residues [m·R, (m + 1)·R) of the
endless row of epochs. A sequence that crosses a boundary is cut there: its two pieces are sequences of
their own, so every micro-batch is full.

The order is found without listing it: runs of 64 neighbours (blocks) are permuted, 64 blocks in that order
make a superblock, and its 4,096 sequences are shuffled. To position at any residue takes a search over
superblocks, then one superblock's order.
"""

import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NoReturn

import numpy as np
from numpy.typing import NDArray

from sedd.data.alphabet import SIZE
from sedd.data.counters import counter_key, permutation, random_bits
from sedd.data.store import Split, TokenStore
from sedd.errors import DataError

BLOCK = 64
SUPERBLOCK = 64  # blocks


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedBatch:
    """Sequences end to end without padding.

    `tokens` int64 [residues]; `cu_seqlens` int32 [sequences + 1], the ends of the sequences from 0 on;
    no sequence is longer than `max_length`, which is the same for every batch.
    """

    tokens: NDArray[np.int64]
    cu_seqlens: NDArray[np.int32]
    max_length: int
    labels: NDArray[np.float32] | None = None
    """[sequences, fields], where the network takes labels; NaN where a sequence has none."""


ReadLabels = Callable[[Split, NDArray[np.int64]], NDArray[np.float32]]
"""(split, numbers of its sequences) → their labels [sequences, fields]."""


@dataclass(frozen=True, slots=True)
class _EpochOrder:
    blocks: NDArray[np.int64]
    superblock_ends: NDArray[np.int64]  # residues of the epoch up to and including each superblock


@dataclass(frozen=True, slots=True)
class _Windows:
    """What each sequence gives to an epoch, in the order in which it does."""

    starts: NDArray[np.int64]  # residue of the split
    ends: NDArray[np.int64]  # residues of this list up to and including each window


class Batches:
    """Training batches of `residues` residues each from one split of a store."""

    def __init__(
        self,
        store: TokenStore,
        *,
        split: str = "train",
        max_length: int = 512,
        residues: int = 32768,
        seed: int = 0,
        labels: ReadLabels | None = None,
    ) -> None:
        self._split = store.split(split)
        self._labels = labels
        if not self._split.sequences:
            raise DataError(f"the {split} split of {store.path} is empty")
        self.residues = residues
        self.seed = seed
        self.max_length = min(max_length, self._split.longest)
        self._block_residues = self._split.block_residues(block=BLOCK, max_length=max_length)
        self.residues_per_epoch = int(self._block_residues.sum())
        # A superblock lasts for some forty micro-batches; all of it can be computed again at any time.
        self._epoch_order = lru_cache(maxsize=2)(self._compute_epoch_order)
        self._windows = lru_cache(maxsize=4)(self._compute_windows)

    def epoch(self, index: int) -> float:
        """Epochs seen before micro-batch `index`; the whole part is the number of the epoch it starts in."""
        return index * self.residues / self.residues_per_epoch

    def micro_batch(self, index: int) -> PackedBatch:
        """Micro-batch `index`, counted from 0 over the whole run and all ranks."""
        first = index * self.residues
        pieces = list(self._pieces(first, first + self.residues))
        return _pack(
            self._split,
            np.concatenate([starts for starts, _ in pieces]),
            np.concatenate([lengths for _, lengths in pieces]),
            self.max_length,
            self._labels,
        )

    def _pieces(self, first: int, stop: int) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Starts and lengths of residues first..stop of the row of epochs, a superblock at a time."""
        while first < stop:
            epoch, within = divmod(first, self.residues_per_epoch)
            ends = self._epoch_order(epoch).superblock_ends
            superblock = int(np.searchsorted(ends, within, side="right"))
            base = int(ends[superblock - 1]) if superblock else 0
            last = min(int(ends[superblock]), within + stop - first)
            yield _cut(self._windows(epoch, superblock), within - base, last - base)
            first += last - within

    def _compute_epoch_order(self, epoch: int) -> _EpochOrder:
        blocks = permutation(counter_key("blocks", self.seed, epoch), len(self._block_residues))
        residues = np.add.reduceat(self._block_residues[blocks], np.arange(0, len(blocks), SUPERBLOCK))
        return _EpochOrder(blocks, np.cumsum(residues))

    def _compute_windows(self, epoch: int, superblock: int) -> _Windows:
        blocks = self._epoch_order(epoch).blocks[superblock * SUPERBLOCK : (superblock + 1) * SUPERBLOCK]
        sequences = (blocks[:, None] * BLOCK + np.arange(BLOCK)).reshape(-1)
        sequences = sequences[sequences < self._split.sequences]
        order = permutation(counter_key("sequences", self.seed, epoch, superblock), len(sequences))
        bits = random_bits(counter_key("window", self.seed, epoch), sequences[order])
        return _crop(self._split, sequences[order], self.max_length, bits)


def longest_first(batch: PackedBatch) -> PackedBatch:
    """The same sequences, the longest first: attention kernels start with the most work and end evenly."""
    edges = batch.cu_seqlens.tolist()
    lengths = np.diff(batch.cu_seqlens)
    order = np.argsort(-lengths, kind="stable")
    tokens = np.concatenate([batch.tokens[edges[i] : edges[i + 1]] for i in order.tolist()])
    cu_seqlens = np.zeros_like(batch.cu_seqlens)
    np.cumsum(lengths[order], out=cu_seqlens[1:])
    labels = None if batch.labels is None else batch.labels[order]
    return PackedBatch(tokens=tokens, cu_seqlens=cu_seqlens, max_length=batch.max_length, labels=labels)


def _crop(split: Split, sequences: NDArray[np.int64], max_length: int, bits: NDArray[np.uint64]) -> _Windows:
    """A window of each sequence longer than `max_length`, all equally likely under random `bits`."""
    starts = split.offsets[sequences]
    lengths = split.offsets[sequences + 1] - starts
    excess = np.maximum(lengths - max_length, 0)
    shift = bits % (excess + 1).astype(np.uint64)
    return _Windows(starts + shift.astype(np.int64), np.cumsum(lengths - excess))


def _cut(windows: _Windows, first: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Starts and lengths of the part of the windows that lies at residues first..stop of their row."""
    low = int(np.searchsorted(windows.ends, first, side="right"))
    high = int(np.searchsorted(windows.ends, stop, side="left")) + 1
    edges = np.concatenate([[first], windows.ends[low : high - 1], [stop]])
    starts = windows.starts[low:high].copy()
    starts[0] += first - (int(windows.ends[low - 1]) if low else 0)
    return starts, np.diff(edges)


def _pack(
    split: Split,
    starts: NDArray[np.int64],
    lengths: NDArray[np.int64],
    max_length: int,
    labels: ReadLabels | None = None,
) -> PackedBatch:
    cu_seqlens = np.zeros(len(lengths) + 1, np.int32)
    np.cumsum(lengths, out=cu_seqlens[1:])
    tokens = np.empty(int(cu_seqlens[-1]), np.int64)
    shard_of = np.searchsorted(split.shard_starts, starts, side="right") - 1
    in_shard = starts - split.shard_starts[shard_of]
    edges = cu_seqlens.tolist()
    # A copy for each piece: a hundred slices are faster than an index array of 32,768 entries.
    for shard, start, low, high in zip(shard_of.tolist(), in_shard.tolist(), edges, edges[1:], strict=False):
        tokens[low:high] = split.shards[shard][start : start + high - low]
    if len(tokens) and int(tokens.max()) >= SIZE:
        _refuse_damaged(
            split, tokens, shard_of[np.searchsorted(cu_seqlens, tokens.argmax(), side="right") - 1]
        )
    found = None
    if labels is not None:  # a piece of a sequence has its labels
        found = labels(split, np.searchsorted(split.offsets, starts, side="right") - 1)
    return PackedBatch(tokens=tokens, cu_seqlens=cu_seqlens, max_length=max_length, labels=found)


def _refuse_damaged(split: Split, tokens: NDArray[np.int64], shard: int) -> NoReturn:
    """A number that is no token would be an index out of range later: on a GPU an error that looks like a broken card.

    Raises:
        DataError: names the file.
    """
    file = split.folder / split.manifest.shards[shard].file
    raise DataError(
        f"{file} is damaged: it holds {tokens.max()}, and tokens are below {SIZE}",
        hint=f"sedd data verify {shlex.quote(str(split.folder.parent))} compares all its files with what was built",
    )


def validation_batches(
    store: TokenStore,
    *,
    residues_total: int,
    residues_per_batch: int,
    max_length: int,
    seed: int = 0,
    labels: ReadLabels | None = None,
) -> list[PackedBatch]:
    """The same whole sequences of the validation split at every call: about `residues_total` residues.

    Sequences and windows are chosen by a hash of the content, so that appending to the store changes few of
    them; a sequence longer than `max_length` gives one window of it. Batches hold whole sequences and at
    most `residues_per_batch` residues.

    Raises:
        DataError: the validation split is empty.
    """
    if max_length > residues_per_batch:
        raise ValueError(f"a sequence of {max_length} residues does not fit in {residues_per_batch}")
    split = store.split("validation")
    if not split.sequences:
        raise DataError(
            f"the validation split of {store.path} is empty",
            hint="build the store with a larger --validation-fraction",
        )
    bits = random_bits(counter_key("validation", seed), split.hashes)
    order = np.argsort(bits, kind="stable")
    windows = _crop(split, order, max_length, bits[order])
    count = min(int(np.searchsorted(windows.ends, residues_total, side="left")) + 1, len(order))
    lengths = np.diff(windows.ends[:count], prepend=0)
    longest = min(max_length, split.longest)
    return [
        _pack(split, windows.starts[low:high], lengths[low:high], longest, labels)
        for low, high in _whole_sequence_runs(windows.ends[:count], residues_per_batch)
    ]


def _whole_sequence_runs(ends: NDArray[np.int64], residues: int) -> Iterator[tuple[int, int]]:
    low = base = 0
    while low < len(ends):
        high = int(np.searchsorted(ends, base + residues, side="right"))
        yield low, high
        low, base = high, int(ends[high - 1])
