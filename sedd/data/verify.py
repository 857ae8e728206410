"""Compare every file of a store with its manifest."""

from pathlib import Path

import numpy as np

from sedd.conditions.label_fields import LabelField, label_files, label_problem
from sedd.data.alphabet import RESIDUES
from sedd.data.assemble import content_hash
from sedd.data.files import HEADER_BYTES, file_checksum, npy_header
from sedd.data.manifest import SplitManifest
from sedd.data.parts import COUNTED_ALWAYS
from sedd.data.progress import Progress, ignore_progress
from sedd.data.store import TokenStore


def verify_store(path: Path, progress: Progress = ignore_progress) -> list[str]:
    """One line for each thing that is wrong with a store; none if it is whole.

    Raises:
        DataError: so damaged that it cannot be opened.
    """
    store = TokenStore.open(path)
    problems = []
    for name, split in store.manifest.splits.items():
        problems += _wrong_checksums(path / name, split, store.manifest.labels, progress)
        problems += filter(
            None, (label_problem(f, name, store.split(name).label(f.name)) for f in store.manifest.labels)
        )
        problems += _wrong_offsets(store, name)
        strange = [token for token, count in enumerate(split.composition) if count and token not in RESIDUES]
        if strange or not _is_plausible(split):
            problems.append(
                f"{path / name}: the manifest's composition is not that of {split.residues:,} residues"
            )
    if content_hash(store.manifest.splits, store.manifest.labels) != store.content_hash:
        problems.append(f"{path}: the manifest's content hash is not that of its splits")
    return problems


def _is_plausible(split: SplitManifest) -> bool:
    """Whether as many letters were counted as there are, or of many some."""
    counted = sum(split.composition)
    return counted == split.residues or COUNTED_ALWAYS <= counted < split.residues


def _wrong_checksums(
    folder: Path, split: SplitManifest, labels: tuple[LabelField, ...], progress: Progress
) -> list[str]:
    expected = {shard.file: (shard.checksum, "|u1", shard.residues) for shard in split.shards}
    expected["offsets.npy"] = split.offsets_checksum, "<i8", split.sequences + 1
    expected["hashes.npy"] = split.hashes_checksum, "<u8", split.sequences
    expected |= label_files(labels, folder.name, split.sequences)
    problems = []
    for file, (checksum, dtype, count) in expected.items():
        with (folder / file).open("rb") as opened:
            header = opened.read(HEADER_BYTES)
        is_same = header == npy_header(np.dtype(dtype), count)
        if not is_same or file_checksum(folder / file, skip=HEADER_BYTES) != checksum:
            problems.append(f"{folder / file}: the content has changed since it was built")
        progress((folder / file).stat().st_size)
    return problems


def _wrong_offsets(store: TokenStore, name: str) -> list[str]:
    split = store.split(name)
    edges = [0, *(shard.first_sequence + shard.sequences for shard in split.manifest.shards)]
    starts = [*split.shard_starts.tolist(), split.residues]
    at_edges = split.offsets[np.array(edges)]
    if (at_edges != np.array(starts)).any() or any((lengths < 1).any() for lengths in split.length_pieces()):
        return [f"{split.folder / 'offsets.npy'}: does not fit the shards"]
    return []
