"""Begin a new store with an old one, whose sequences keep their numbers and their side of the split."""

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from sedd.data.encode import Tally
from sedd.data.files import NpyWriter
from sedd.data.manifest import Manifest
from sedd.data.parts import Part, PartSplit
from sedd.data.store import Split, TokenStore
from sedd.errors import DataError

_MAY_DIFFER = {"clusters", "labels", "label_numbers", "limit", "onto"}


def stored_part(store: TokenStore, folder: Path) -> Part:
    """A store's sequences as a part. Its shards are linked, not copied, where the file system can do that."""
    tally = Tally()
    for name, count in store.manifest.tally.items():
        tally.add(name, count)
    return Part(
        splits={name: _link_split(store.split(name), folder / name) for name in store.manifest.splits},
        tally=tally,
    )


def _link_split(split: Split, folder: Path) -> PartSplit:
    folder.mkdir(parents=True)
    labels = tuple(field.column for field in split.labels)
    files = [shard.file for shard in split.manifest.shards] + [column.file for column in labels]
    for file in ("hashes.npy", *files):
        _link_or_copy(split.folder / file, folder / file)
    with NpyWriter(folder / "lengths.npy", "<i4") as lengths:
        for piece in split.length_pieces():
            lengths.write(piece)
    composition = np.array(split.manifest.composition, np.int64)
    return PartSplit(folder=folder, shards=split.manifest.shards, composition=composition, labels=labels)


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)


def require_appendable(path: Path, manifest: Manifest, options: dict[str, Any]) -> None:
    """Raise DataError unless new sequences are treated as those of the store were: else the split would be two."""
    if manifest.options["sample"] is not None:
        raise DataError(
            f"{path} is a sample, drawn from all sequences together: nothing can be added to it",
            hint="build from all the FASTA files, without onto",
        )
    changed = [k for k, value in options.items() if k not in _MAY_DIFFER and manifest.options[k] != value]
    if changed:
        was = ", ".join(f"{key}={manifest.options[key]}" for key in changed)
        raise DataError(
            f"{path} was built with {was}", hint="what is added to a store must be built as it was"
        )
    has_clusters = manifest.options["clusters"] is not None
    if has_clusters != (options["clusters"] is not None):
        raise DataError(
            f"of {path} and what is added to it, one has clusters and the other has none",
            hint="name a cluster table of what is added"
            if has_clusters
            else "leave the clusters out, or build the store again with them",
        )
    if (options.get("labels") is None) != (not manifest.labels):
        raise DataError(
            f"of {path} and what is added to it, one has labels and the other has none",
            hint="a table with the same columns, empty cells where a label is missing",
        )
