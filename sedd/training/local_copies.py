"""Copies of the state on rank 0's own node, every few seconds: a restart in the same job continues from the newest.

They have the format and the seal of the shared checkpoints, and say besides whose they are and how long the files of
rows were. Only the newest is kept. What is damaged, of another run or job, or ahead of its rows is not used.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sedd.errors import CheckpointError, RunError
from sedd.rundir.layout import RunDir, read_manifest
from sedd.rundir.node_folder import find_folders, make_folder, remove_stale, room
from sedd.spec.training import CheckpointSpec
from sedd.training.checkpoint_file import (
    checkpoint_path,
    is_whole,
    list_checkpoints,
    parse_checkpoint,
    prune_checkpoints,
    remove_leftovers,
    step_of,
    write_checkpoint,
)
from sedd.training.metrics import rows_up_to

Notify = Callable[[str], None]

_AT_ONCE = 2
"""Copies that are there while one is written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodePlace:
    """Where copies may lie, and who will look for them."""

    entry: str
    """The job entry, which starts the next attempt (`rundir.node_folder.entry_name`)."""
    folder: str | None
    """The folder that the site names; None: the best of this node."""


@dataclass(frozen=True, slots=True)
class LocalCopy:
    """A whole copy of our own."""

    path: Path
    step: int
    content: bytes
    """Of the file."""


class LocalCopies:
    """The copies of one run in one job, on this node."""

    def __init__(self, run: RunDir, place: NodePlace, environ: Mapping[str, str] = os.environ) -> None:
        self._run, self._place, self._environ = run, place, environ
        self._origin = {"run": str(run.path), "code": _code_hash(run), "entry": place.entry}
        self._folder: Path | None = None
        remove_stale(run.path, place.entry, asked=place.folder, environ=environ)

    def newest(self, *, after: int, notify: Notify) -> LocalCopy | None:
        """The newest copy that is whole, our own, and of a later step than `after`; all others are removed."""
        found: LocalCopy | None = None
        for path in sorted(self._paths(), key=step_of, reverse=True):
            if found is None and step_of(path) > after:
                try:
                    found = self._read(path)
                except (CheckpointError, OSError) as e:
                    notify(f"a copy on this node is not used: {getattr(e, 'message', e)}")
        self._remove_all_but(found.path if found else None)
        return found

    def _remove_all_but(self, kept: Path | None) -> None:
        for folder in self._folders():
            if kept is None or folder != kept.parent:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            remove_leftovers(folder)
            for other in folder.glob("step-*"):
                if other.stem != kept.stem:
                    other.unlink(missing_ok=True)

    def write(self, step: int, state: Mapping[str, Any], *, rows: list[int]) -> None:
        """Write a copy, and remove the one before; `rows` are the lengths of the files of rows up to this step.

        Raises:
            CheckpointError, OSError: it cannot be written.
        """
        if int(state.get("bad_steps", 0)):
            return  # amid steps that were not finite: a restart is better off with an older one
        if self._folder is None or not self._folder.is_dir():
            self._folder = self._make_folder(state)
        elif (left := room(self._folder)) < _bytes_of(state):
            raise OSError(0, f"{self._folder.parent}: {left >> 20} MiB left")
        copy = {**state, "origin": self._origin, "rows": rows}
        write_checkpoint(self._folder, step, copy, is_durable=False)
        prune_checkpoints(self._folder, keep=1, keep_every_steps=None)

    def _make_folder(self, state: Mapping[str, Any]) -> Path:
        return make_folder(
            self._run.path,
            self._place.entry,
            bytes_=_AT_ONCE * _bytes_of(state),
            asked=self._place.folder,
            environ=self._environ,
        )

    def _folders(self) -> list[Path]:
        return find_folders(
            self._run.path, self._place.entry, asked=self._place.folder, environ=self._environ
        )

    def _paths(self) -> list[Path]:
        return [path for folder in self._folders() for path in list_checkpoints(folder)]

    def _read(self, path: Path) -> LocalCopy:
        """Raises: CheckpointError, OSError, which say why it is not used."""
        if not is_whole(path):
            raise CheckpointError(f"{path} is damaged, or was never finished")
        content = path.read_bytes()
        state = parse_checkpoint(content)
        if (state.get("origin"), state.get("run")) != (self._origin, f"{self._run.name}/{self._run.id}"):
            raise CheckpointError(f"{path} is of another run, job or version of the code")
        step = int(state["step"])
        if path != checkpoint_path(path.parent, step) or state.get("rows") != rows_up_to(self._run, step):
            raise CheckpointError(f"{path} does not go with the rows of metrics.jsonl")
        return LocalCopy(path, step, content)


def open_local_copies(
    run: RunDir, spec: CheckpointSpec, place: NodePlace | None, *, is_first: bool
) -> LocalCopies | None:
    """The copies of this job; None for other ranks than 0, and where nobody would restart from them."""
    if not is_first or place is None or spec.local_every is None:
        return None
    return LocalCopies(run, place)


def _code_hash(run: RunDir) -> str:
    try:
        return str(read_manifest(run).get("code_hash", ""))
    except RunError:
        return ""


def _bytes_of(state: Any) -> int:
    if isinstance(state, Mapping):
        return sum(_bytes_of(value) for value in state.values())
    if isinstance(state, (list, tuple)):
        return sum(_bytes_of(value) for value in state)
    return int(getattr(state, "nbytes", 0))
