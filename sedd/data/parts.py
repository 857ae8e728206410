"""Write one part of a store from blocks of records; several processes do this side by side."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sedd.conditions.label_fields import LabelColumn
from sedd.conditions.label_table import LabelTable, TableFiles
from sedd.data.alphabet import SIZE
from sedd.data.clusters import ClusterTable
from sedd.data.encode import Encoded, Filters, Tally, count_codes, encode_block, require_protein
from sedd.data.files import NpyWriter
from sedd.data.manifest import SPLITS, Shard

SHARD_RESIDUES = 1 << 30
COUNTED_ALWAYS = 1 << 21
"""Residues: what a part has beyond is counted for the composition by a 64th. To count all would take a fifth of
the build's time, for digits that nobody reads."""
_COUNT_RESIDUES = 1 << 20
_COUNTED_BEYOND = 64
_BLOCKS_A_CHECK = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class PartOptions:
    """How a part is made; the same for all parts of a store."""

    filters: Filters
    validation_fraction: float
    clusters: Path | None
    labels: TableFiles | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PartSplit:
    """One split's share of a part: `folder` holds shards, `lengths.npy` (int32), `hashes.npy` (uint64), labels."""

    folder: Path
    shards: tuple[Shard, ...]
    composition: NDArray[np.int64]
    labels: tuple[LabelColumn, ...] = ()

    @property
    def sequences(self) -> int:
        return sum(shard.sequences for shard in self.shards)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What the blocks of one builder became."""

    splits: dict[str, PartSplit]
    tally: Tally


def merged_tally(parts: list[Part]) -> Tally:
    """The sum of the parts' tallies."""
    tally = Tally()
    for part in parts:
        for name, count in part.tally.counts.items():
            tally.add(name, count, example=part.tally.examples.get(name))
    return tally


class PartWriter:
    """Writes one split's share of a part."""

    def __init__(
        self, folder: Path, shard_residues: int = SHARD_RESIDUES, labels: tuple[LabelColumn, ...] = ()
    ) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._shard_residues = shard_residues
        self._lengths = NpyWriter(folder / "lengths.npy", "<i4")
        self._hashes = NpyWriter(folder / "hashes.npy", "<u8")
        self._labels = labels
        self._label_files = [NpyWriter(folder / column.file, column.dtype.str) for column in labels]
        self._tokens: NpyWriter | None = None
        self._shards: list[Shard] = []
        self._composition = np.zeros(SIZE, np.int64)
        self._uncounted: list[bytes | memoryview] = []
        self._uncounted_residues = self._counted_residues = self._counts = 0

    def write(
        self,
        tokens: Sequence[bytes | memoryview],
        lengths: NDArray[np.integer],
        hashes: NDArray[np.uint64],
        labels: Sequence[NDArray[np.generic]] = (),
    ) -> None:
        """Append whole sequences, end to end in the pieces of `tokens`, and their labels, an array a field."""
        if not len(lengths):
            return
        if self._tokens is None:
            first = sum(shard.sequences for shard in self._shards)
            name = f"tokens-{len(self._shards):05d}.npy"
            self._tokens = NpyWriter(self._folder / name, "|u1")
            self._shards.append(Shard(file=name, first_sequence=first, sequences=0, residues=0, checksum=""))
        self._tokens.write_pieces(tokens)
        self._lengths.write(lengths)
        self._hashes.write(hashes)
        for file, column in zip(self._label_files, labels, strict=True):
            file.write(column)
        residues = int(lengths.sum(dtype=np.int64))
        if self._is_counting:
            self._uncounted += tokens
        self._uncounted_residues += residues
        if self._uncounted_residues >= _COUNT_RESIDUES:
            self._count()
        shard = self._shards[-1]
        self._shards[-1] = replace(
            shard, sequences=shard.sequences + len(lengths), residues=shard.residues + residues
        )
        if self._tokens.count >= self._shard_residues:
            self._end_shard()

    @property
    def _is_counting(self) -> bool:
        return self._counted_residues < COUNTED_ALWAYS or self._counts % _COUNTED_BEYOND == 0

    def _count(self) -> None:
        """Add what came since the last count to the composition, if that is among what is counted."""
        if self._is_counting:
            self._composition += count_codes(b"".join(self._uncounted))[:SIZE]
            self._counted_residues += self._uncounted_residues
        self._counts += 1
        self._uncounted.clear()
        self._uncounted_residues = 0

    def close(self) -> PartSplit:
        """Put everything on the disk."""
        self._end_shard()
        self._count()
        self._lengths.close()
        self._hashes.close()
        for file in self._label_files:
            file.close()
        return PartSplit(
            folder=self._folder,
            shards=tuple(self._shards),
            composition=self._composition,
            labels=self._labels,
        )

    def _end_shard(self) -> None:
        if self._tokens is not None:
            self._tokens.close()
            self._shards[-1] = replace(self._shards[-1], checksum=self._tokens.checksum)
            self._tokens = None


class PartBuilder:
    """Encodes, filters and splits blocks of records into `folder`."""

    def __init__(self, folder: Path, options: PartOptions) -> None:
        self._options = options
        self._blocks = 0
        self._tally = Tally()
        columns = options.labels.columns if options.labels else ()
        self._writers = {name: PartWriter(folder / name, labels=columns) for name in SPLITS}
        self._clusters = ClusterTable(options.clusters) if options.clusters else None
        self._labels = LabelTable(options.labels) if options.labels else None

    def add(self, block: bytes, *, source: str, at_most: int | None = None) -> int:
        """Take a block of whole records, or the first `at_most` kept sequences of it; how many were kept.

        Raises:
            DataError: the block is not protein.
        """
        if self._blocks % _BLOCKS_A_CHECK == 0:
            require_protein(block, source)
        self._blocks += 1
        named = self._clusters is not None or self._labels is not None
        encoded = encode_block(block, self._options.filters, self._tally, source=source, named=named)
        if at_most is not None:
            self._tally.add("beyond_limit", max(0, len(encoded.lengths) - at_most))
            encoded = _first(encoded, at_most)
        in_validation = encoded.hashes < np.uint64(validation_limit(self._options.validation_fraction))
        if self._clusters is not None:
            in_validation, missing = self._clusters.sides(encoded.names, in_validation)
            self._tally.add("unclustered", missing)
        labels = self._labels.labels(encoded.names) if self._labels is not None else []
        _write_block(self._writers, encoded, in_validation, labels)
        return len(encoded.lengths)

    def close(self) -> Part:
        """Put everything on the disk."""
        splits = {name: writer.close() for name, writer in self._writers.items()}
        return Part(splits=splits, tally=self._tally)


def validation_limit(fraction: float) -> int:
    """A sequence is in validation if its 64-bit hash is below this."""
    return min(int(fraction * 2**64), 2**64 - 1)


def _write_block(
    writers: dict[str, PartWriter],
    encoded: Encoded,
    in_validation: NDArray[np.bool_],
    labels: Sequence[NDArray[np.generic]],
) -> None:
    ends = np.cumsum(encoded.lengths)
    # Runs of sequences on the same side: few are in validation, so there are fewer runs than sequences.
    turns = np.flatnonzero(np.diff(in_validation)) + 1
    cuts = [0, *ends[turns - 1].tolist(), len(encoded.tokens)]
    tokens = memoryview(encoded.tokens)
    runs = [tokens[start:stop] for start, stop in pairwise(cuts)]
    first_is_validation = bool(in_validation[:1].any())
    for name, here, own in (
        ("validation", in_validation, runs[not first_is_validation :: 2]),
        ("train", ~in_validation, runs[first_is_validation::2]),
    ):
        of_split = [column[here] for column in labels]
        writers[name].write(own, encoded.lengths[here], encoded.hashes[here], of_split)


def _first(encoded: Encoded, count: int) -> Encoded:
    lengths = encoded.lengths[:count]
    return Encoded(encoded.tokens[: lengths.sum()], encoded.names[:count], lengths, encoded.hashes[:count])
