"""Facts about the file system under a folder: mount, free space, writing speed, clock."""

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MOUNTS = Path("/proc/self/mounts")
_NODE_LOCAL = frozenset(
    {"ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "ramfs", "overlay", "squashfs"}
)
_OCTAL_ESCAPES = {"\\040": " ", "\\011": "\t", "\\012": "\n", "\\134": "\\"}
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """One line of /proc/self/mounts."""

    point: str
    kind: str
    source: str

    @property
    def is_node_local(self) -> bool:
        """Whether another machine cannot see it, as far as its kind tells."""
        return self.kind in _NODE_LOCAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Room for an ordinary user; `free_inodes` is None where the file system does not count them."""

    free_bytes: int
    free_inodes: int | None
    is_read_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """A file written, fsynced and removed. `clock_ahead_s`: our clock less the file's new time stamp."""

    seconds: float
    written_bytes: int
    clock_ahead_s: float


def existing(path: Path) -> Path:
    """The path, or its nearest parent that exists."""
    return next(p for p in (path, *path.parents) if p.exists())


def unreadable(paths: Iterable[Path]) -> str | None:
    """What is wrong with the first path that is not a file, or that this user may not read; None if all are well."""
    for path in paths:
        if not path.is_file():
            return f"{path} {'is not a file' if path.exists() else 'does not exist'}"
        if not os.access(path, os.R_OK):
            return f"{path} may not be read by you"
    return None


def parse_mounts(text: str) -> list[Mount]:
    """The mounts in /proc/self/mounts, later ones over earlier ones."""
    mounts = []
    for line in text.splitlines():
        fields = line.split(" ")
        if len(fields) >= 3:
            mounts.append(Mount(source=_unescape(fields[0]), point=_unescape(fields[1]), kind=fields[2]))
    return mounts


def mount_of(path: Path, mounts: list[Mount]) -> Mount | None:
    """The mount that holds a resolved path."""
    holding = [m for m in mounts if path.is_relative_to(m.point)]
    return max(reversed(holding), key=lambda m: len(m.point), default=None)


def query_mount(path: Path) -> Mount | None:
    """The mount under a path, or under its nearest existing parent; None where /proc does not say."""
    try:
        mounts = parse_mounts(MOUNTS.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return None
    return mount_of(existing(path).resolve(), mounts)


def query_space(path: Path) -> Space:
    """The room under a path, or under its nearest existing parent. Raises: OSError."""
    seen = os.statvfs(existing(path))
    return Space(
        free_bytes=seen.f_bavail * seen.f_frsize,
        free_inodes=seen.f_favail if seen.f_files else None,
        is_read_only=bool(seen.f_flag & os.ST_RDONLY),
    )


def measure_writing(folder: Path, *, size_bytes: int) -> Writing:
    """Write, fsync and remove a file in an existing folder. Raises: OSError."""
    probe = folder / f".preflight-{os.getpid()}-{time.monotonic_ns()}.tmp"
    chunk = os.urandom(_CHUNK)  # random: some file systems compress
    started = time.perf_counter()
    try:
        handle = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            for _ in range(max(1, size_bytes // _CHUNK)):
                _write_all(handle, chunk)
            os.fsync(handle)
            stamped = os.fstat(handle).st_mtime
        finally:
            os.close(handle)
        seconds = time.perf_counter() - started
        now = time.time()
    finally:
        probe.unlink(missing_ok=True)
    written = max(1, size_bytes // _CHUNK) * _CHUNK
    return Writing(seconds=seconds, written_bytes=written, clock_ahead_s=now - stamped)


def _write_all(handle: int, data: bytes) -> None:
    while data:
        data = data[os.write(handle, data) :]


def _unescape(text: str) -> str:
    for escape, letter in _OCTAL_ESCAPES.items():
        text = text.replace(escape, letter)
    return text
