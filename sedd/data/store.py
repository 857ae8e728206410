"""A token store opened for reading: memory-mapped, so that all processes of a node share one copy."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sedd.data.files import HEADER_BYTES, Element
from sedd.data.manifest import Manifest, SplitManifest, read_manifest, unigram_nats
from sedd.errors import DataError


@dataclass(frozen=True)
class Split:
    """The sequences of one side of the split, numbered from 0."""

    name: str
    folder: Path
    manifest: SplitManifest

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
        """int32 [sequences]: residues of each sequence."""
        return np.diff(self.offsets).astype(np.int32)

    def block_residues(self, *, block: int, max_length: int) -> NDArray[np.int64]:
        """int64 [blocks]: residues in each run of `block` sequences when longer ones are cut to `max_length`.

        Reads the offsets in pieces instead of mapping them: 60 M of them would be 480 MB of resident memory.
        """
        sums = [np.empty(0, np.int64)]
        piece = block << 14
        for first in range(0, self.sequences, piece):
            where = HEADER_BYTES + 8 * first
            edges = np.fromfile(self.folder / "offsets.npy", "<i8", piece + 1, offset=where)
            lengths = np.minimum(np.diff(edges), max_length)
            sums.append(np.add.reduceat(lengths, np.arange(0, len(lengths), block)))
        return np.concatenate(sums)


class TokenStore:
    """A folder made by `sedd data build`."""

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._splits = {name: Split(name, path / name, split) for name, split in manifest.splits.items()}

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


def _map(path: Path, dtype: type[Element]) -> NDArray[Element]:
    try:
        mapped: NDArray[Element] = np.load(path, mmap_mode="r")
    except (OSError, ValueError) as e:
        raise DataError(f"{path} cannot be read: {e}", hint="build the store again, with --force") from e
    if mapped.dtype != dtype:
        raise DataError(f"{path} holds {mapped.dtype}, not {np.dtype(dtype)}: the store is damaged")
    return mapped.view(np.ndarray)  # slices of an np.memmap are five times slower


def _require_size(path: Path, expected: int) -> None:
    size = path.stat().st_size if path.exists() else None
    if size != expected:
        saw = "is missing" if size is None else f"has {size} bytes instead of {expected}"
        raise DataError(f"{path} {saw}: the store is damaged", hint="build the store again, with --force")
