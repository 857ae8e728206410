"""Open a token store for reading; it is memory-mapped, so all processes of a node share one copy."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sedd.conditions.label_fields import LabelField, label_files
from sedd.data.files import HEADER_BYTES, Element, read_span
from sedd.data.manifest import Manifest, SplitManifest, read_manifest, unigram_nats
from sedd.errors import DataError


@dataclass(frozen=True)
class Split:
    """The sequences of one side of the split, numbered from 0."""

    name: str
    folder: Path
    manifest: SplitManifest
    labels: tuple[LabelField, ...] = ()

    @property
    def sequences(self) -> int:
        return self.manifest.sequences

    @property
    def residues(self) -> int:
        return self.manifest.residues

    @property
    def longest(self) -> int:
        return int(self.manifest.lengths["max"])

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """int64 [sequences + 1]: sequence i is residues offsets[i] to offsets[i + 1] of the split."""
        return _map(self.folder / "offsets.npy", np.int64)

    @cached_property
    def hashes(self) -> NDArray[np.uint64]:
        """uint64 [sequences]: XXH3-64 of each sequence's tokens."""
        return _map(self.folder / "hashes.npy", np.uint64)

    def label(self, name: str) -> NDArray[Any]:
        """[sequences]: a category's number (int32, -1 where there is none) or a number (float32, NaN)."""
        field = next(field for field in self.labels if field.name == name)
        return _map(self.folder / field.file, field.dtype)

    @cached_property
    def shards(self) -> tuple[NDArray[np.uint8], ...]:
        """The tokens, uint8, a file each."""
        return tuple(_map(self.folder / shard.file, np.uint8) for shard in self.manifest.shards)

    @cached_property
    def shard_starts(self) -> NDArray[np.int64]:
        """int64 [shards]: the residue of the split at which each shard starts."""
        return np.cumsum([0, *(shard.residues for shard in self.manifest.shards)])[:-1]

    def tokens(self, sequence: int) -> NDArray[np.uint8]:
        """Token ids of one sequence."""
        start, stop = (int(offset) for offset in self.offsets[sequence : sequence + 2])
        shard = int(np.searchsorted(self.shard_starts, start, side="right")) - 1
        first = int(self.shard_starts[shard])
        return self.shards[shard][start - first : stop - first]

    def lengths(self) -> NDArray[np.int32]:
        """int32 [sequences]: residues of each sequence; 240 MB of 60 M."""
        return np.concatenate([np.empty(0, np.int32), *self.length_pieces()])

    def length_pieces(self, at_once: int = 1 << 20) -> Iterator[NDArray[np.int32]]:
        """The same, some at a time.

        Reads the offsets in pieces instead of mapping them: 60 M of them would be 480 MB of resident memory.
        """
        for first in range(0, self.sequences, at_once):
            edges = read_span(self.folder / "offsets.npy", np.int64, first, at_once + 1)
            yield np.diff(edges).astype(np.int32)

    def length_quantiles(self, levels: NDArray[np.float64], *, max_length: int) -> NDArray[np.int64]:
        """int64 [levels]: the quantiles nearest to these levels, of lengths cut to `max_length`."""
        counts = np.zeros(max_length + 1, np.int64)
        for lengths in self.length_pieces():
            counts += np.bincount(np.minimum(lengths, max_length), minlength=max_length + 1)
        ranks = np.rint(levels * (self.sequences - 1))
        return np.searchsorted(np.cumsum(counts), ranks, side="right").astype(np.int64)

    def block_residues(self, *, block: int, max_length: int) -> NDArray[np.int64]:
        """int64 [blocks]: residues in each run of `block` sequences when longer ones are cut to `max_length`."""
        sums = [np.empty(0, np.int64)]
        for lengths in self.length_pieces(block << 14):
            cut = np.minimum(lengths, max_length).astype(np.int64)
            sums.append(np.add.reduceat(cut, np.arange(0, len(cut), block)))
        return np.concatenate(sums)


class TokenStore:
    """A folder made by `sedd data build`."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._splits = {
            name: Split(name, path / name, split, manifest.labels) for name, split in manifest.splits.items()
        }

    @classmethod
    def open(cls, path: Path) -> "TokenStore":
        """Open a store and check that all its files have their full size.

        Raises:
            DataError: not a store, or a damaged one.
        """
        store = cls(path, read_manifest(path))
        for name, split in store.manifest.splits.items():
            sizes = {shard.file: shard.residues for shard in split.shards}
            sizes |= {"offsets.npy": 8 * (split.sequences + 1), "hashes.npy": 8 * split.sequences}
            labels = label_files(store.manifest.labels, name, split.sequences)
            sizes |= {file: np.dtype(dtype).itemsize * count for file, (_, dtype, count) in labels.items()}
            for file, size in sizes.items():
                _require_size(path / name / file, HEADER_BYTES + size)
        return store

    @property
    def content_hash(self) -> str:
        """Names the sequences and their order."""
        return self.manifest.content_hash

    def split(self, name: str) -> Split:
        """`train` or `validation`."""
        return self._splits[name]

    def lengths(self, split: str = "train") -> NDArray[np.int32]:
        """int32 [sequences]: residues of each sequence of a split."""
        return self.split(split).lengths()

    def unigram_nats(self) -> float:
        """Nats per residue of the validation split under the letter frequencies of the training split."""
        splits = self.manifest.splits
        return unigram_nats(splits["train"].composition, splits["validation"].composition)


def _map(path: Path, dtype: type[Element] | np.dtype[Element]) -> NDArray[Element]:
    try:
        mapped: NDArray[Element] = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as e:
        raise DataError(f"{path} cannot be read: {e}", hint="build the store again, with --force") from e
    if mapped.dtype != dtype:
        raise DataError(f"{path} holds {mapped.dtype}, not {np.dtype(dtype)}: the store is damaged")
    return mapped.view(np.ndarray)  # slices of an np.memmap are five times slower


def _require_size(path: Path, expected: int) -> None:
    if path.is_symlink() or path.parent.is_symlink():
        raise DataError(
            f"{path} leads out of the store by a symbolic link",
            hint="copy the file itself there; a link to the whole store is fine",
        )
    size = path.stat().st_size if path.exists() else None
    if size != expected:
        saw = "is missing" if size is None else f"has {size} bytes instead of {expected}"
        raise DataError(f"{path} {saw}: the store is damaged", hint="build the store again, with --force")
