"""Make a folder appear whole or not at all: write it under a hidden name beside its place, then rename it."""

import os
import re
import shutil
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sedd.data.files import sync_folder
from sedd.errors import DataError

_STALE_S = 86_400.0
"""For what a process of another machine left behind: nobody can ask whether it lives, but it would have written."""


@contextmanager
def atomic_folder(output: Path, *, owner: str = "") -> Iterator[Path]:
    """A new hidden folder beside `output`: takes its place if the block succeeds, else is removed.

    What killed processes left behind is removed first: of this machine; of the same `owner`, of whom there is never
    more than one, wherever it was; of others when nothing in it has changed for a day.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(output, owner)
    folder = output.with_name(f".{output.name}.building-{owner}@{socket.gethostname()}-{os.getpid()}")
    folder.mkdir()
    try:
        yield folder
        sync_folder(folder)
        _take_place(folder, output)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _take_place(folder: Path, output: Path) -> None:
    old = folder.with_name(folder.name + ".old")
    if output.exists():
        os.rename(output, old)
    try:
        os.rename(folder, output)
    except OSError as e:
        if old.exists():
            os.rename(old, output)
        raise DataError(
            f"{output} appeared while it was being built", hint="is another build running?"
        ) from e
    sync_folder(output.parent)
    shutil.rmtree(old, ignore_errors=True)


def _remove_abandoned(output: Path, owner: str) -> None:
    name = re.compile(re.escape(f".{output.name}.building-") + r"(.*)@(.*)-(\d+)(\.old)?")
    for sibling in output.parent.iterdir():
        if not (match := name.fullmatch(sibling.name)):
            continue
        is_here = match[2] == socket.gethostname()
        is_ours = bool(owner) and match[1] == owner
        if is_ours or (not _is_running(int(match[3])) if is_here else _age_s(sibling) > _STALE_S):
            shutil.rmtree(sibling, ignore_errors=True)


def _age_s(folder: Path) -> float:
    """Seconds since anything in it has changed."""
    changed = [folder.stat().st_mtime]
    with suppress(OSError):  # it goes away as we look
        changed += [path.stat().st_mtime for path in folder.rglob("*")]
    return time.time() - max(changed)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
