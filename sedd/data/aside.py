"""A folder that appears whole or not at all: written beside its place under a hidden name, then renamed."""

import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sedd.data.files import sync_folder
from sedd.errors import DataError


@contextmanager
def written_aside(output: Path) -> Iterator[Path]:
    """A new hidden folder beside `output`: takes its place if the block succeeds, else is removed.

    What a killed process of this machine left behind is removed first.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(output)
    folder = output.with_name(f".{output.name}.building-{socket.gethostname()}-{os.getpid()}")
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


def _remove_abandoned(output: Path) -> None:
    name = re.compile(re.escape(f".{output.name}.building-{socket.gethostname()}-") + r"(\d+)(\.old)?")
    for sibling in output.parent.iterdir():
        if (match := name.fullmatch(sibling.name)) and not _is_running(int(match[1])):
            shutil.rmtree(sibling, ignore_errors=True)


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
