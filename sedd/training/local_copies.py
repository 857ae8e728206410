"""Copies of the state on the node itself, every few seconds: a restart in the same job continues from the newest.

Rank 0 copies the whole state; where it is spread over ranks (sharding/), each rank copies its part to its own node.
Copies have the format and the seal of the shared checkpoints, and say besides whose they are and how long the files of
rows were. Only the newest is kept. What is damaged, of another run, job or rank, or ahead of its rows is not used.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sedd.errors import CheckpointError, RunError
from sedd.rundir.layout import RunDir, list_checkpoints, read_manifest, step_of
from sedd.rundir.node_folder import find_folders, make_folder, remove_stale, room
from sedd.spec.experiment import Experiment
from sedd.training.checkpoint_file import (
    checkpoint_path,
    is_whole,
    map_checkpoint,
    prune_checkpoints,
    remove_checkpoint,
    remove_leftovers,
    write_checkpoint,
)
from sedd.training.distributed import Ranks
from sedd.training.metrics import rows_up_to

Notify = Callable[[str], None]

AT_ONCE = 2
"""Copies that are there while one is written, or until all ranks have written it."""


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
    state: dict[str, Any]
    """Mapped from the file, and not yet read."""


class LocalCopies:
    """One rank's copies of the state of one run in one job, on its node."""

    def __init__(
        self,
        run: RunDir,
        place: NodePlace,
        spread_over: Ranks | None = None,
        *,
        writers: int = 1,
        environ: Mapping[str, str] = os.environ,
    ) -> None:
        """`spread_over`: this rank among those that have parts of the state, of which `writers` are on this node.

        Without it rank 0 copies the whole state.
        """
        self._run, self._place, self._environ, self._writers = run, place, environ, writers
        ranks = spread_over or Ranks()
        self._is_first = ranks.is_first
        self._subfolder = f"rank-{ranks.local_rank}" if spread_over else ""
        """Of the entry's folder, which under the local executor all ranks share."""
        self._origin = {
            "run": str(run.path),
            "code": _code_hash(run),
            "entry": place.entry,
            "part": f"{ranks.rank} of {ranks.size}",
        }
        self._folder: Path | None = None
        remove_stale(run.path, place.entry, asked=place.folder, environ=environ)

    def find(self, *, after: int, notify: Notify) -> list[LocalCopy]:
        """The copies that are whole, our own, and of later steps than `after`; newest first, `AT_ONCE` at most."""
        found: list[LocalCopy] = []
        for path in sorted(self._paths(notify), key=step_of, reverse=True):
            if len(found) < AT_ONCE and step_of(path) > after:
                try:
                    found.append(self._read(path))
                except (CheckpointError, OSError) as e:
                    notify(f"a copy on this node is not used: {getattr(e, 'message', e)}")
        return found

    def remove_all_but(self, kept: LocalCopy | None) -> None:
        """Remove what no restart will use."""
        for folder in self._folders():
            if kept is None or folder != kept.path.parent:
                shutil.rmtree(folder, ignore_errors=True)
                continue
            remove_leftovers(folder)
            for other in folder.glob("step-*"):
                if other.stem != kept.path.stem:
                    other.unlink(missing_ok=True)

    def write(self, step: int, state: Mapping[str, Any], *, rows: list[int]) -> bool:
        """Write a copy beside the one before; whether it was written: amid steps that were not finite none is.

        `rows` are the lengths of the files of rows up to this step.

        Raises:
            CheckpointError, OSError: it cannot be written.
        """
        if int(state.get("bad_steps", 0)):
            return False  # a restart is better off with an older one
        bytes_ = _bytes_of(state) * self._writers
        if self._folder is None or not self._folder.is_dir():
            self._folder = self._make_folder(AT_ONCE * bytes_)
        elif (left := room(self._folder)) < bytes_:
            raise OSError(0, f"{self._folder}: {left >> 20} MiB left")
        copy = {**state, "origin": self._origin, "rows": rows}
        write_checkpoint(self._folder, step, copy, is_durable=False)
        return True

    def keep_newest(self, step: int) -> None:
        """Remove the copy before, once every rank has written the newest one, of that step."""
        if self._folder is not None:
            prune_checkpoints(self._folder, newest=step, keep=1, keep_every_steps=None)

    def remove(self, step: int) -> None:
        """Remove a copy that another rank could not write."""
        if self._folder is not None:
            remove_checkpoint(checkpoint_path(self._folder, step))

    def _make_folder(self, bytes_: int) -> Path:
        folder = make_folder(
            self._run.path,
            self._place.entry,
            bytes_=bytes_,
            asked=self._place.folder,
            environ=self._environ,
        )
        (folder / self._subfolder).mkdir(exist_ok=True)
        return folder / self._subfolder

    def _folders(self) -> list[Path]:
        found = find_folders(
            self._run.path, self._place.entry, asked=self._place.folder, environ=self._environ
        )
        return [folder / self._subfolder for folder in found]

    def _paths(self, notify: Notify) -> list[Path]:
        paths: list[Path] = []
        for folder in self._folders():
            try:
                paths += list_checkpoints(folder)
            except CheckpointError as e:
                notify(f"copies on this node are not used: {e.message}")
        return paths

    def _read(self, path: Path) -> LocalCopy:
        """Raises: CheckpointError, OSError, which say why it is not used."""
        if not is_whole(path):
            raise CheckpointError(f"{path} is damaged, or was never finished")
        state = map_checkpoint(path)
        if (state.get("origin"), state.get("run")) != (self._origin, f"{self._run.name}/{self._run.id}"):
            raise CheckpointError(f"{path} is of another run, job, rank or version of the code")
        step = int(state["step"])
        rows = rows_up_to(self._run, step) if self._is_first else []  # which rank 0 alone writes
        if path != checkpoint_path(path.parent, step) or state.get("rows") != rows:
            raise CheckpointError(f"{path} does not go with the rows of metrics.jsonl")
        return LocalCopy(path, step, state)


def open_local_copies(
    run: RunDir, experiment: Experiment, place: NodePlace | None, ranks: Ranks, *, is_spread: bool
) -> LocalCopies | None:
    """This rank's copies; None where nobody would restart from them, and where rank 0 alone copies the state."""
    if place is None or experiment.training.checkpoint.local_every is None:
        return None
    if is_spread:
        return LocalCopies(run, place, ranks, writers=experiment.resources.ranks_per_node)
    return LocalCopies(run, place) if ranks.is_first else None


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
