"""Make a folder appear whole or not at all: write it under a hidden name beside its place, then rename it."""

import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sedd.alive import is_alive
from sedd.data.files import sync_folder
from sedd.errors import DataError

_OLD = ".old"
_STALE_S = 86_400.0
"""For what a process of another machine left behind: nobody can ask whether it lives, but it would have written."""


class AppearedError(DataError):
    """Somebody else made the folder meanwhile."""


@contextmanager
def atomic_folder(output: Path, *, owner: str = "", replace: bool = False) -> Iterator[Path]:
    """A new hidden folder beside `output`: takes its place if the block succeeds, else is removed.

    What killed processes left behind is removed first: of this machine; of the same `owner`, of whom there is never
    more than one, wherever it was; of others when nothing in it has changed for a day.

    Raises:
        AppearedError: `output` is there, and not to be replaced.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(output, owner)
    folder = output.with_name(f".{output.name}.building-{owner}@{socket.gethostname()}-{os.getpid()}")
    folder.mkdir()
    try:
        yield folder
        sync_folder(folder)
        _take_place(folder, output, replace=replace)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def restore_replaced(output: Path, *, owner: str = "") -> None:
    """Put back what a writer had moved out of the way for its own folder when it was killed."""
    for sibling in [] if output.exists() else _abandoned(output, owner):
        if sibling.name.endswith(_OLD):
            with suppress(OSError):  # of several the first
                os.rename(sibling, output)


def _take_place(folder: Path, output: Path, *, replace: bool) -> None:
    old = folder.with_name(folder.name + _OLD)
    if output.exists() and replace:
        os.rename(output, old)
    try:
        os.rename(folder, output)
    except OSError as e:
        if old.exists():
            os.rename(old, output)
        raise AppearedError(
            f"{output} appeared while it was being built", hint="is another build running?"
        ) from e
    sync_folder(output.parent)
    shutil.rmtree(old, ignore_errors=True)


def _remove_abandoned(output: Path, owner: str) -> None:
    restore_replaced(output, owner=owner)
    for sibling in _abandoned(output, owner):
        shutil.rmtree(sibling, ignore_errors=True)


def _abandoned(output: Path, owner: str) -> Iterator[Path]:
    """Hidden folders of writers that are gone."""
    name = re.compile(re.escape(f".{output.name}.building-") + r"(.*)@(.*)-(\d+)(\.old)?")
    for sibling in list(output.parent.iterdir()):
        if not (match := name.fullmatch(sibling.name)):
            continue
        is_here = match[2] == socket.gethostname()
        is_ours = bool(owner) and match[1] == owner
        if is_ours or (not is_alive(int(match[3])) if is_here else _age_s(sibling) > _STALE_S):
            yield sibling


def _age_s(folder: Path) -> float:
    """Seconds since anything in it has changed."""
    changed = [folder.stat().st_mtime]
    with suppress(OSError):  # it goes away as we look
        changed += [path.stat().st_mtime for path in folder.rglob("*")]
    return time.time() - max(changed)
