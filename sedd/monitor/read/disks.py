"""Whether anything can be written where a run lives; a run on a full disk cannot report it."""

import os
import stat

from sedd.units import format_bytes

DISK_FULL = "disk full"
_TOO_LITTLE_BYTES = 1 << 16
"""A heartbeat is written aside before it replaces the old one, and file systems hand out whole blocks."""


class Disks:
    """What the file systems say at one moment; asked once for all runs of a name, which lie side by side."""

    def __init__(self) -> None:
        self._said: dict[str, str] = {}

    def why_full(self, path: str) -> str:
        """`disk full: 0 B free in /scratch`, `no write permission: /runs/small/…`, or nothing.

        A quota that is used up is not seen from outside.
        """
        if not _may_be_written(path):
            return f"no write permission: {path}"
        parent = os.path.dirname(path)
        if parent not in self._said:
            self._said[parent] = _why_full(path)
        return self._said[parent]


def _may_be_written(path: str) -> bool:
    """Whether the folder's owner, whose job it is that writes there, may do so."""
    try:
        return bool(os.stat(path).st_mode & stat.S_IWUSR)
    except OSError:
        return True


def _why_full(path: str) -> str:
    try:
        seen = os.statvfs(path)
    except OSError:
        return ""
    # What can never be written to, or counts nothing, is not full.
    if seen.f_flag & os.ST_RDONLY or not seen.f_blocks:
        return ""
    if (free := seen.f_bavail * seen.f_frsize) < _TOO_LITTLE_BYTES:
        return f"{DISK_FULL}: {format_bytes(free)} free in {_mount_point(path)}"
    if seen.f_files and not seen.f_favail:
        return f"{DISK_FULL}: no file can be made in {_mount_point(path)}"
    return ""


def _mount_point(path: str) -> str:
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path
