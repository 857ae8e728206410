"""Copy a store to the node's own disk once per node, check it, and find it again in the next attempt."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import xxhash

from sedd.conditions.label_fields import label_files
from sedd.data.files import HEADER_BYTES
from sedd.data.manifest import MANIFEST, Manifest
from sedd.data.store import TokenStore
from sedd.errors import DataError, UsageError
from sedd.home import expand_home
from sedd.rundir.node_folder import is_private

_PIECE_BYTES = 1 << 22
_SPARE_BYTES = 1 << 28  # for whatever else the job writes there


@dataclass(frozen=True, slots=True, kw_only=True)
class Staged:
    """A store to read from. `problem` says why it is the shared one; None: the node has a copy."""

    store: TokenStore
    problem: str | None
    copied_bytes: int = 0
    """0 where the copy was there already."""


def stage_store(path: Path, folder: str) -> Staged:
    """Open this user's own copy of a store under `folder`, in which `~` and `$VARIABLES` are expanded here.

    Nobody else may read it, and what somebody else has put in its place is not read.

    Every process of a node may call it: the first copies, the others wait. Where that is not possible, the shared
    store is opened and the reason told.

    Raises:
        DataError: the shared store is damaged.
    """
    shared = TokenStore.open(path)
    place = os.path.expandvars(folder)
    if "$" in place or not place:
        return Staged(store=shared, problem=f"{folder}: this node's environment does not have the variable")
    try:
        copy = expand_home(place) / f"sedd-{os.geteuid()}-{_name_of_files(shared)}.store"
    except UsageError as e:
        return Staged(store=shared, problem=e.message)
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        with _locked(copy.with_suffix(".lock")):
            if os.path.lexists(copy) and not is_private(copy):
                return Staged(store=shared, problem=f"{copy} is somebody else's, or others may read it")
            return _copied(shared, copy)
    except OSError as e:
        return Staged(store=shared, problem=f"{copy.parent}: {(e.strerror or str(e)).lower()}")


def _copied(shared: TokenStore, copy: Path) -> Staged:
    if _is_whole(copy, shared.manifest):
        return Staged(store=TokenStore(copy, shared.manifest), problem=None)
    files = _files(shared)
    needed = sum(path.stat().st_size for path in files)
    free = shutil.disk_usage(copy.parent).free
    if free < needed + _SPARE_BYTES:
        seen = f"{free / 2**30:.1f} GiB free, the store needs {needed / 2**30:.1f} GiB"
        return Staged(store=shared, problem=f"{copy.parent}: {seen}")
    temporary = copy.with_suffix(".copying")
    shutil.rmtree(temporary, ignore_errors=True)  # of a copier that was killed: we hold the lock
    try:
        temporary.mkdir(mode=0o700)
        for path, checksum in files.items():
            _copy(path, temporary / path.relative_to(shared.path), checksum)
        shutil.rmtree(copy, ignore_errors=True)
        os.rename(temporary, copy)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Staged(store=TokenStore.open(copy), problem=None, copied_bytes=needed)


def _is_whole(copy: Path, manifest: Manifest) -> bool:
    """Whether the copy is there: it got its name when its checksums had been seen."""
    try:
        there = TokenStore.open(copy).manifest
    except DataError:
        return False
    return (there.splits, there.labels) == (manifest.splits, manifest.labels)


def _name_of_files(store: TokenStore) -> str:
    """Names the files and what is in them: a store of the same content may lie in others, as after `--onto`."""
    named = (f"{path.relative_to(store.path)} {checksum}" for path, checksum in _files(store).items())
    return str(xxhash.xxh3_64_hexdigest("\n".join(named).encode()))


def _files(store: TokenStore) -> dict[Path, str | None]:
    """The store's files and their checksums; the manifest, which has none, last."""
    files: dict[Path, str | None] = {}
    for name, split in store.manifest.splits.items():
        folder = store.path / name
        files |= {folder / shard.file: shard.checksum for shard in split.shards}
        files |= {
            folder / "offsets.npy": split.offsets_checksum,
            folder / "hashes.npy": split.hashes_checksum,
        }
        labels = label_files(store.manifest.labels, name, split.sequences)
        files |= {folder / file: checksum for file, (checksum, _, _) in labels.items()}
    return files | {store.path / MANIFEST: None}


def _copy(source: Path, target: Path, checksum: str | None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    seen = xxhash.xxh3_128()
    with source.open("rb") as original, target.open("wb") as copy:
        if checksum is not None:
            copy.write(original.read(HEADER_BYTES))
        while piece := original.read(_PIECE_BYTES):
            seen.update(piece)
            copy.write(piece)
    if checksum is not None and seen.hexdigest() != checksum:
        raise DataError(
            f"{source}: the content has changed since it was built",
            hint="build the store again, with --force",
        )


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
