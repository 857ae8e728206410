"""Folders that all users of a folder of runs write into: `runs/NAME`, in which each has runs of their own."""

import os
import stat
from pathlib import Path

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_OF_OTHERS = stat.S_IRWXG | stat.S_IRWXO | stat.S_ISVTX
_FILE = 0o666


def make_shared(folder: Path) -> None:
    """Make a folder unless it is there. Where others may write into the one above, it is as open to them as that one.

    By a umask of 022, which most have, the first user of a name would keep it from all others. Raises: OSError.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        folder.mkdir()
    except FileExistsError:
        if not folder.is_dir():
            raise
        return
    above = os.stat(folder.parent).st_mode
    if above & _OTHERS_WRITE:
        os.chmod(folder, stat.S_IMODE(os.stat(folder).st_mode) | above & _OF_OTHERS)


def open_to_all(handle: int, folder: Path) -> None:
    """Let all read and write an open file of this user who may do so with its folder. Raises: OSError."""
    os.fchmod(handle, os.stat(folder).st_mode & _FILE)
