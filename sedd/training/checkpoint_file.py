"""Write and read checkpoint files: checksummed, renamed into place; the newest whole one is used."""

import contextlib
import dataclasses
import functools
import hashlib
import io
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sedd.errors import CheckpointError, CheckpointUnavailableError, cannot_read, hint_of, reason_of
from sedd.rundir.atomic import atomic_file, replace_text, replaced_file, write_text
from sedd.rundir.layout import list_checkpoints, step_of
from sedd.training.sharding.part_files import with_parts
from sedd.training.sharding.rows import whole

FORMAT = 1
_READERS = 8
"""Files whose checksums are computed at a time."""
_REST_S = 2
"""After so long without a change a later one shows in a file's times."""

State = Mapping[str, Any]
"""Tensors, numbers, texts, and lists and dicts of them: what `torch.load(weights_only=True)` reads back."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a file of a checkpoint is when it is whole."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Seal:
    """The file beside a checkpoint that says what whole is; written after it, so without one it is not whole."""

    step: int
    bytes: int
    sha256: str
    parts: tuple[Part, ...] = ()
    """Of a checkpoint that all ranks have written (sharding/): the files of each."""

    @property
    def total_bytes(self) -> int:
        """Of all its files."""
        return self.bytes + sum(part.bytes for part in self.parts)


def checkpoint_path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.pt"


def write_checkpoint(
    folder: Path,
    step: int,
    state: State,
    *,
    parts: Sequence[Part] = (),
    before_publishing: Callable[[], None] = lambda: None,
    is_durable: bool = True,
) -> Seal:
    """Write `step-00001000.pt` and its seal; a crash at any byte leaves older checkpoints as they were.

    `before_publishing` is called when all is written and nothing is visible yet; what it raises leaves no trace. One
    that is not durable may be damaged by a power cut, which its seal shows. `parts` are its other files, already there.

    Raises:
        CheckpointError: it cannot be written, with the system's reason; its `__cause__` is the OSError.
    """
    path = checkpoint_path(folder, step)
    own = write_state(path, state, before_publishing, is_durable=is_durable)
    seal = Seal(step=step, bytes=own.bytes, sha256=own.sha256, parts=tuple(parts))
    with _explained(path):
        (write_text if is_durable else replace_text)(_seal_path(path), json.dumps(_plain(seal)) + "\n")
    return seal


def write_state(
    path: Path, state: State, before_publishing: Callable[[], None], *, is_durable: bool = True
) -> Part:
    """Write a file of a checkpoint; else as `write_checkpoint`."""
    with _explained(path), (atomic_file if is_durable else replaced_file)(path) as temporary:
        with _system_errors(temporary):
            torch.save(dict(state), temporary)
        part = Part(name=path.name, bytes=temporary.stat().st_size, sha256=_sha256(temporary))
        before_publishing()
    return part


_PROBE_BYTES = 1 << 20
"""So much is written to learn why a file could not be: less may still fit into the last block."""


def _plain(seal: Seal) -> dict[str, Any]:
    fields = dataclasses.asdict(seal)
    return fields if seal.parts else {key: value for key, value in fields.items() if key != "parts"}


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Raises: CheckpointError, in place of what the system or torch raises."""
    try:
        yield
    except OSError as e:
        raise CheckpointUnavailableError(f"cannot write {path}: {reason_of(e)}", hint=hint_of(e)) from e


@contextlib.contextmanager
def _system_errors(path: Path) -> Iterator[None]:
    """Raises: OSError, in place of what torch's zip writer makes of it, which lacks the system's number."""
    try:
        yield
    except RuntimeError as e:
        raise _cause_of(path, str(e).splitlines()[0]) from e


def _cause_of(path: Path, message: str) -> OSError:
    """What the system says when a little more is written to the file that torch could not write."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            for _ in range(_PROBE_BYTES >> 16):
                os.write(handle, bytes(1 << 16))
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as e:
        return e
    return OSError(0, message)


def newest_whole(folder: Path, *, notify: Callable[[str], None] | None = None) -> Path | None:
    """The newest checkpoint whose content is what its seal says, or None; `notify` hears of newer ones that are not.

    Raises:
        CheckpointError: it cannot be said, because the folder or a newer one cannot be read now: it may be whole.
    """
    there = reversed(list_checkpoints(folder, unsealed=True))
    newest = next((path for path in list_checkpoints(folder) if is_whole(path)), None)
    instead = f"{newest.name} is used instead" if newest else "there is no whole one"
    for path in there if notify else ():
        # Looked at once more: of a run that trains it may have become whole meanwhile.
        if notify and step_of(path) > (step_of(newest) if newest else -1) and not is_whole(path):
            notify(f"{path} is damaged, or was never finished: {instead}")
    return newest


def is_whole(path: Path, *, part: int | None = None) -> bool:
    """Whether a checkpoint has the length and the checksum of its seal; of its parts all, or that one.

    Raises:
        CheckpointError: a file of it is there and cannot be read: permission denied, a stale file handle, a bad disk.
    """
    try:
        fields = json.loads(_seal_path(path).read_bytes())
        parts = tuple(Part(**each) for each in fields.pop("parts", ()))
        seal = Seal(**fields)
        looked_at = parts if part is None else parts[part : part + 1]
        with ThreadPoolExecutor(_READERS) as pool:
            return all(
                pool.map(
                    lambda each: _is_as(path.with_name(each.name), each),
                    (Part(path.name, seal.bytes, seal.sha256), *looked_at),
                )
            )
    except (FileNotFoundError, ValueError, TypeError):
        return False
    except OSError as e:
        raise cannot_read(path, e) from e


def _is_as(path: Path, part: Part) -> bool:
    seen = path.stat()
    if seen.st_size != part.bytes:
        return False
    # What has just been written could change once more within one tick of the file system's clock.
    is_at_rest = time.time_ns() - max(seen.st_mtime_ns, seen.st_ctime_ns) > _REST_S * 1e9
    identity = seen.st_dev, seen.st_ino, seen.st_mtime_ns, seen.st_ctime_ns
    return (_sha256_once(path, identity) if is_at_rest else _sha256(path)) == part.sha256


def read_checkpoint(path: Path, *, device: torch.device | str = "cpu") -> dict[str, Any]:
    """A checkpoint's state, whole also where ranks have written parts; no code in it is run (`weights_only=True`).

    Raises:
        CheckpointError: no such file, one that cannot be read, damaged, or not a checkpoint of ours.
    """
    state: dict[str, Any] = whole(open_checkpoint(path, device=device))
    return state


def open_checkpoint(
    path: Path, *, device: torch.device | str = "cpu", part: int | None = None
) -> dict[str, Any]:
    """A checkpoint's state with `Pieces` in place of what ranks have written, read when their rows are taken.

    `part`: of the parts only that one's checksum is compared. Raises: CheckpointError as `read_checkpoint`.
    """
    if _is_sealed(path) and not is_whole(path, part=part):
        raise CheckpointError(f"{path} is damaged: its checksum is not the one it was written with")
    state = _loaded(path, str(path), device)
    return with_parts(path, state, lambda each: _unpickled(each, str(each), device, is_mapped=True))


def _is_sealed(path: Path) -> bool:
    try:
        return _seal_path(path).exists()
    except OSError as e:
        raise cannot_read(path, e) from e


def map_checkpoint(path: Path) -> dict[str, Any]:
    """The state in one file, mapped into memory and read when it is used; raises as `read_checkpoint`."""
    return _loaded(path, str(path), "cpu", is_mapped=True)


def parse_checkpoint(content: bytes) -> dict[str, Any]:
    """A checkpoint's state, from the content of its file. Raises: CheckpointError when it is not one of ours."""
    return _loaded(io.BytesIO(content), "what was received", "cpu")


def _loaded(
    file: Path | io.BytesIO, name: str, device: torch.device | str, *, is_mapped: bool = False
) -> dict[str, Any]:
    state = _unpickled(file, name, device, is_mapped=is_mapped)
    if state.get("format") != FORMAT:
        raise CheckpointError(f"{name} is not a checkpoint of format {FORMAT}: seen {state.get('format')!r}")
    return state


def _unpickled(
    file: Path | io.BytesIO, name: str, device: torch.device | str, *, is_mapped: bool = False
) -> dict[str, Any]:
    try:
        state = torch.load(file, map_location=device, weights_only=True, mmap=is_mapped)
    except FileNotFoundError as e:
        raise CheckpointError(f"{name}: no such file") from e
    except OSError as e:
        raise cannot_read(Path(name), e) from e
    except (
        Exception
    ) as e:  # of bytes that are no checkpoint the unpickler raises whatever comes, KeyError too
        raise CheckpointError(f"{name} is not a checkpoint, or is damaged") from e
    if not isinstance(state, dict):
        raise CheckpointError(f"{name} is not a checkpoint of format {FORMAT}: seen {type(state).__name__!r}")
    return state


def prune_checkpoints(folder: Path, *, newest: int, keep: int, keep_every_steps: int | None) -> None:
    """Remove all but the newest `keep` and the multiples of `keep_every_steps`; and what killed writers left.

    `newest` is the step that was written just now. Later ones are damaged, or the attempt would have resumed there:
    they stay, and take no whole one's place.
    """
    checkpoints = [path for path in list_checkpoints(folder) if step_of(path) <= newest]
    for path in folder.glob("step-*.pt"):
        kept = path in checkpoints[:keep] or (keep_every_steps and step_of(path) % keep_every_steps == 0)
        if not kept and step_of(path) <= newest:
            remove_checkpoint(path)
    kept_steps = {path.stem for path in list_checkpoints(folder)}
    for path in folder.glob("step-*.shard"):
        stem = path.name.partition(".")[0]
        if stem not in kept_steps and step_of(path.with_name(f"{stem}.pt")) <= newest:
            path.unlink(missing_ok=True)


def remove_checkpoint(path: Path) -> None:
    """Remove a checkpoint of one file, if it is there."""
    _seal_path(path).unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """At the start of an attempt, when nobody else writes: drop the temporary files of killed writers."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def _seal_path(path: Path) -> Path:
    return path.with_suffix(".json")


@functools.lru_cache(maxsize=1024)
def _sha256_once(path: Path, identity: tuple[int, ...]) -> str:
    """Of a file that is looked for, and then read: gigabytes, each time from the shared disk."""
    return _sha256(path)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
