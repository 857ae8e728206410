"""Join the parts of a build into one store: drop duplicates, number shards, write offsets and statistics."""

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xxhash
from numpy.typing import NDArray

from sedd.conditions.label_fields import LabelColumn, LabelField, describe_column
from sedd.data.alphabet import ALPHABET_HASH, SIZE
from sedd.data.duplicates import find_duplicates, find_unsampled
from sedd.data.encode import Tally
from sedd.data.files import HEADER_BYTES, NpyWriter, read_pieces, read_span, sync_folder
from sedd.data.manifest import SPLITS, Shard, SplitManifest
from sedd.data.parts import Part, PartSplit, PartWriter
from sedd.data.progress import Progress, ignore_progress
from sedd.data.store_picture import length_bin

_LONGEST_COUNTED = 100_000  # lengths beyond share a bin of the statistics
_COPY_RESIDUES, _COPY_SEQUENCES = 1 << 24, 1 << 16  # at once, whichever is less


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """What is decided over all sequences together, not one by one."""

    keep_duplicates: bool
    sample: int | None
    sample_seed: int


def assemble(
    parts: list[Part],
    folder: Path,
    selection: Selection,
    tally: Tally,
    *,
    base: Part | None = None,
    progress: Progress = ignore_progress,
) -> tuple[dict[str, SplitManifest], list[Part]]:
    """Move the parts' sequences into `folder` in their order, and count in `tally` what is dropped.

    The sequences of `base` come first and all stay. Otherwise the first of equal sequences stays; where both splits
    have it, validation's does. `progress` is called with 0 now and then: whoever watches may want to stop. Returns
    the splits, and the parts as they went into them.
    """
    before = [base] if base else []
    order = [part.splits[name] for group in (before, parts) for name in reversed(SPLITS) for part in group]
    parts = [*before, *parts]
    dropped = _select([split.folder / "hashes.npy" for split in order], order, selection, tally, progress)
    kept: dict[Path, PartSplit] = {}
    first = 0
    for split in order:
        mask = dropped[first : first + split.sequences]
        kept[split.folder] = compact(split, ~mask, progress) if mask.any() else split
        first += split.sequences
    parts = [
        Part(splits={name: kept[part.splits[name].folder] for name in SPLITS}, tally=part.tally)
        for part in parts
    ]
    splits = {name: _join([part.splits[name] for part in parts], folder / name, progress) for name in SPLITS}
    return splits, parts


def content_hash(splits: dict[str, SplitManifest], labels: tuple[LabelField, ...] = ()) -> str:
    """Names the sequences, their order and their labels, however they are sharded."""
    named = [
        ALPHABET_HASH,
        *(f"{n} {s.offsets_checksum} {s.hashes_checksum}" for n, s in sorted(splits.items())),
        *(
            f"{f.name} {f.kind} {split} {checksum} {xxhash.xxh3_128_hexdigest(chr(9).join(f.values).encode())}"
            for f in labels
            for split, checksum in sorted(f.checksums.items())
        ),
    ]
    return str(xxhash.xxh3_128_hexdigest("\n".join(named).encode()))


def _select(
    files: list[Path], splits: list[PartSplit], selection: Selection, tally: Tally, progress: Progress
) -> NDArray[np.bool_]:
    dropped = np.zeros(sum(split.sequences for split in splits), np.bool_)
    if not selection.keep_duplicates:
        dropped |= find_duplicates(files, len(dropped), progress)
        tally.add("duplicates", int(dropped.sum()))
    if selection.sample is not None:
        outside = find_unsampled(files, dropped, sample=selection.sample, seed=selection.sample_seed)
        tally.add("not_sampled", int(outside.sum()))
        dropped |= outside
    return dropped


def compact(split: PartSplit, keep: NDArray[np.bool_], progress: Progress = ignore_progress) -> PartSplit:
    """A part's split written again beside the old one, with only the sequences to keep."""
    writer = PartWriter(split.folder.with_name(f"{split.folder.name}-kept"), labels=split.labels)
    for shard in split.shards:
        path = split.folder / shard.file
        with path.open("rb") as tokens:  # read, not mapped: a shard of a gzip file is a GiB
            tokens.seek(HEADER_BYTES)
            for low, lengths, hashes in _shard_pieces(split.folder, shard):
                progress(0)
                kept = keep[low : low + len(lengths)]
                piece = np.fromfile(tokens, np.uint8, int(lengths.sum(dtype=np.int64)))
                labels = [
                    read_span(split.folder / column.file, column.dtype.type, low, len(lengths))[kept]
                    for column in split.labels
                ]
                writer.write([piece[np.repeat(kept, lengths)].tobytes()], lengths[kept], hashes[kept], labels)
        path.unlink()
    return writer.close()


def _shard_pieces(folder: Path, shard: Shard) -> Iterator[tuple[int, NDArray[np.int32], NDArray[np.uint64]]]:
    """Number of the first sequence, lengths and hashes of some sequences at a time."""
    low, end = shard.first_sequence, shard.first_sequence + shard.sequences
    while low < end:
        lengths = read_span(folder / "lengths.npy", np.int32, low, min(_COPY_SEQUENCES, end - low))
        ends = np.cumsum(lengths, dtype=np.int64)
        lengths = lengths[: max(int(np.searchsorted(ends, _COPY_RESIDUES, side="right")), 1)]
        yield low, lengths, read_span(folder / "hashes.npy", np.uint64, low, len(lengths))
        low += len(lengths)


def _join(parts: list[PartSplit], folder: Path, progress: Progress) -> SplitManifest:
    """Number the parts' shards through, and write `offsets.npy` and `hashes.npy` of all."""
    folder.mkdir()
    shards: list[Shard] = []
    sequences = 0
    histogram = np.zeros(_LONGEST_COUNTED + 1, np.int64)
    longest = residues = 0
    with (
        NpyWriter(folder / "offsets.npy", "<i8") as offsets,
        NpyWriter(folder / "hashes.npy", "<u8") as hashes,
    ):
        offsets.write(np.zeros(1, np.int64))
        for part in parts:
            progress(0)
            for shard in part.shards:
                name = f"tokens-{len(shards):05d}.npy"
                os.rename(part.folder / shard.file, folder / name)
                shards.append(replace(shard, file=name, first_sequence=sequences + shard.first_sequence))
            for lengths in read_pieces(part.folder / "lengths.npy", np.int32):
                offsets.write(residues + np.cumsum(lengths, dtype=np.int64))
                residues += int(lengths.sum(dtype=np.int64))
                longest = max(longest, int(lengths.max()))
                progress(0)
                histogram += np.bincount(np.minimum(lengths, _LONGEST_COUNTED), minlength=len(histogram))
            for piece in read_pieces(part.folder / "hashes.npy", np.uint64):
                hashes.write(piece)
            sequences += part.sequences
    sync_folder(folder)
    return SplitManifest(
        sequences=sequences,
        residues=residues,
        composition=tuple(sum((part.composition for part in parts), np.zeros(SIZE, np.int64)).tolist()),
        lengths=_length_statistics(histogram, residues, longest),
        length_histogram=_length_bins(histogram),
        offsets_checksum=offsets.checksum,
        hashes_checksum=hashes.checksum,
        shards=tuple(shards),
    )


def join_labels(
    parts: list[Part], folder: Path, columns: tuple[LabelColumn, ...], progress: Progress = ignore_progress
) -> tuple[LabelField, ...]:
    """Write the columns of labels of all parts, in the order in which `assemble` has put their sequences."""
    fields = []
    for column in columns:
        checksums = {}
        for name in SPLITS:
            with NpyWriter(folder / name / column.file, column.dtype.str) as writer:
                for part in parts:
                    for piece in read_pieces(part.splits[name].folder / column.file, column.dtype.type):
                        progress(0)
                        writer.write(piece)
            checksums[name] = writer.checksum
        written = {name: np.load(folder / name / column.file, mmap_mode="r") for name in SPLITS}
        fields.append(describe_column(column, written, checksums))
    return tuple(fields)


def _length_bins(histogram: NDArray[np.int64]) -> tuple[int, ...]:
    """Counts of lengths, in bins that grow with the length."""
    lengths = np.flatnonzero(histogram)
    if not len(lengths):
        return ()
    bins = [length_bin(length) for length in lengths.tolist()]
    return tuple(np.bincount(bins, weights=histogram[lengths]).astype(np.int64).tolist())


def _length_statistics(histogram: NDArray[np.int64], residues: int, longest: int) -> dict[str, float]:
    count = int(histogram.sum())
    if not count:
        return {"min": 0, "p05": 0, "median": 0, "mean": 0, "p95": 0, "max": 0}
    below = np.cumsum(histogram)
    quantile = {
        name: int(np.searchsorted(below, q * count))
        for name, q in (("p05", 0.05), ("median", 0.5), ("p95", 0.95))
    }
    shortest = int(np.flatnonzero(histogram)[0])
    return {"min": shortest, **quantile, "mean": round(residues / count, 2), "max": longest}
