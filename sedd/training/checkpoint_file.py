"""Write and read checkpoint files: checksummed, renamed into place; the newest whole one is used."""

import dataclasses
import errno
import hashlib
import io
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sedd.errors import CheckpointError
from sedd.rundir.atomic import atomic_file, replace_text, replaced_file, write_text

FORMAT = 1
_NAME = re.compile(r"step-(\d{8,})\.pt")

State = Mapping[str, Any]
"""Tensors, numbers, texts, and lists and dicts of them: what `torch.load(weights_only=True)` reads back."""


@dataclass(frozen=True, slots=True)
class Seal:
    """The file beside a checkpoint that says what whole is; written after it, so without one it is not whole."""

    step: int
    bytes: int
    sha256: str


def checkpoint_path(folder: Path, step: int) -> Path:
    return folder / f"step-{step:08d}.pt"


def step_of(path: Path) -> int:
    """The step in a checkpoint's name; -1 for another file."""
    match = _NAME.fullmatch(path.name)
    return int(match[1]) if match else -1


def write_checkpoint(
    folder: Path,
    step: int,
    state: State,
    *,
    before_publishing: Callable[[], None] = lambda: None,
    is_durable: bool = True,
) -> Seal:
    """Write `step-00001000.pt` and its seal; a crash at any byte leaves older checkpoints as they were.

    `before_publishing` is called when all is written and nothing is visible yet; what it raises leaves no trace. One
    that is not durable may be damaged by a power cut, which its seal shows.

    Raises:
        CheckpointError: the disk is full, or the folder cannot be written.
    """
    path = checkpoint_path(folder, step)
    try:
        with (atomic_file if is_durable else replaced_file)(path) as temporary:
            torch.save(dict(state), temporary)
            seal = Seal(step=step, bytes=temporary.stat().st_size, sha256=_sha256(temporary))
            before_publishing()
        (write_text if is_durable else replace_text)(
            _seal_path(path), json.dumps(dataclasses.asdict(seal)) + "\n"
        )
    except OSError as e:
        raise CheckpointError(
            f"cannot write {path}: {e.strerror}", hint="is the disk full, or the quota?"
        ) from e
    except RuntimeError as e:  # so torch's zip writer reports what the system says, without its number
        cause = _cause_of(folder, str(e).splitlines()[0])
        raise CheckpointError(f"cannot write {path}: {cause.strerror}") from cause
    return seal


def _cause_of(folder: Path, message: str) -> OSError:
    """The system's error behind one of torch's zip writer."""
    if not folder.is_dir():
        return OSError(errno.ENOENT, "its folder is gone", str(folder))
    if not os.access(folder, os.W_OK):
        return OSError(errno.EACCES, "its folder may not be written", str(folder))
    return OSError(errno.ENOSPC, f"the disk or the quota is full ({message})")


def list_checkpoints(folder: Path) -> list[Path]:
    """Sealed checkpoints, newest first."""
    sealed = (p for p in folder.glob("step-*.pt") if step_of(p) >= 0 and _seal_path(p).exists())
    return sorted(sealed, key=step_of, reverse=True)


def newest_whole(folder: Path, *, notify: Callable[[str], None] | None = None) -> Path | None:
    """The newest checkpoint whose content is what its seal says, or None; `notify` hears of newer ones that are not."""
    there = sorted(folder.glob("step-*.pt"), key=step_of)
    newest = next((path for path in list_checkpoints(folder) if is_whole(path)), None)
    instead = f"{newest.name} is used instead" if newest else "there is no whole one"
    for path in there if notify else ():
        # Looked at once more: of a run that trains it may have become whole meanwhile.
        if notify and step_of(path) > (step_of(newest) if newest else -1) and not is_whole(path):
            notify(f"{path} is damaged, or was never finished: {instead}")
    return newest


def is_whole(path: Path) -> bool:
    """Whether a checkpoint has the length and the checksum of its seal."""
    try:
        seal = Seal(**json.loads(_seal_path(path).read_bytes()))
        return path.stat().st_size == seal.bytes and _sha256(path) == seal.sha256
    except (OSError, ValueError, TypeError):
        return False


def read_checkpoint(path: Path, *, device: torch.device | str = "cpu") -> dict[str, Any]:
    """A checkpoint's state; no code in it is run (`weights_only=True`).

    Raises:
        CheckpointError: no such file, damaged, or not a checkpoint of ours.
    """
    if _seal_path(path).exists() and not is_whole(path):
        raise CheckpointError(f"{path} is damaged: its checksum is not the one it was written with")
    return _loaded(path, str(path), device)


def parse_checkpoint(content: bytes) -> dict[str, Any]:
    """A checkpoint's state, from the content of its file. Raises: CheckpointError when it is not one of ours."""
    return _loaded(io.BytesIO(content), "what was received", "cpu")


def _loaded(file: Path | io.BytesIO, name: str, device: torch.device | str) -> dict[str, Any]:
    try:
        state = torch.load(file, map_location=device, weights_only=True)
    except FileNotFoundError as e:
        raise CheckpointError(f"{name}: no such file") from e
    except (
        Exception
    ) as e:  # of bytes that are no checkpoint the unpickler raises whatever comes, KeyError too
        raise CheckpointError(f"{name} is not a checkpoint, or is damaged") from e
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        seen = state.get("format") if isinstance(state, dict) else type(state).__name__
        raise CheckpointError(f"{name} is not a checkpoint of format {FORMAT}: seen {seen!r}")
    return state


def prune_checkpoints(folder: Path, *, keep: int, keep_every_steps: int | None) -> None:
    """Remove all but the newest `keep` and the multiples of `keep_every_steps`; and what killed writers left."""
    checkpoints = list_checkpoints(folder)
    newest = step_of(checkpoints[0]) if checkpoints else -1
    for path in folder.glob("step-*.pt"):
        kept = path in checkpoints[:keep] or (keep_every_steps and step_of(path) % keep_every_steps == 0)
        if not kept and step_of(path) <= newest:
            _seal_path(path).unlink(missing_ok=True)
            path.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """At the start of an attempt, when nobody else writes: drop the temporary files of killed writers."""
    for path in folder.glob(".*.tmp"):
        path.unlink(missing_ok=True)


def _seal_path(path: Path) -> Path:
    return path.with_suffix(".json")


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
