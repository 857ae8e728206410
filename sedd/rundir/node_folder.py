"""A private folder of the node itself for one job's copies of its training state: named, made, found, removed.

Its name holds the user, the run, and the process that leads the job's attempts on the node (the job entry) with that
node, so that copies of another run, job or node are never taken for our own: also where a site names a folder that
nodes share. Folders of other users and of other nodes are neither read nor touched.
"""

import contextlib
import hashlib
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from sedd.errors import UsageError
from sedd.home import expand_home

ENTRY_VARIABLE = "SEDD_ENTRY"
"""With which a job entry tells its training processes who leads them, as `entry_name` says it."""
SPARE_BYTES = 1 << 28
"""Left free for whatever else the job writes there."""
STALE_S = 600.0
"""Without a change for so long, a folder whose entry is not seen here any more is a killed job's."""

_NAME = re.compile(r"sedd-state-(\d+)-([0-9a-f]{16})-(\d+-\d+-[0-9a-f]{8})")
_SHARED_KINDS = frozenset(
    "nfs nfs4 lustre gpfs beegfs ceph cifs smb3 panfs 9p afs wekafs orangefs gfs2 ocfs2".split()
)


def entry_name(pid: int) -> str:
    """A process of this node, not to be mistaken for a later one of the same id, or for one of another node.

    Raises:
        OSError: it is gone.
    """
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return f"{pid}-{fields[19]}-{_this_node()}"  # the 22nd field: when it started, in clock ticks since the node did


def make_folder(run: Path, entry: str, *, bytes_: int, asked: str | None, environ: Mapping[str, str]) -> Path:
    """The folder of this run and entry, made in the first place with room for `bytes_`.

    Raises:
        OSError: no place of this node has room.
    """
    refused = []
    for place in places(asked, environ):
        folder = place / _folder_name(run, entry)
        try:
            if (left := room(place)) < bytes_:
                raise OSError(0, f"{left >> 20} MiB free, {bytes_ >> 20} MiB are needed")
            with contextlib.suppress(FileExistsError):
                folder.mkdir(mode=0o700)
            if not is_private(folder):
                raise OSError(0, f"{folder.name} there is somebody else's")
        except OSError as e:
            refused.append(f"{place}: {e.strerror or e}")
        else:
            return folder
    raise OSError(0, "; ".join(refused) or "this node has no folder of its own that may be written")


def find_folders(run: Path, entry: str, *, asked: str | None, environ: Mapping[str, str]) -> list[Path]:
    """This run's and entry's folders that are there."""
    name = _folder_name(run, entry)
    return [place / name for place in places(asked, environ) if is_private(place / name)]


def remove_folders(run: Path, entry: str | None, *, asked: str | None, environ: Mapping[str, str]) -> None:
    """At the end of a job: remove this run's folders on this node, `entry`'s and those whose entry is gone."""
    for folder, run_hash, owner in _own_folders(_node_of(entry), asked, environ):
        if run_hash == _hash(run) and (owner == entry or not _is_alive(owner)):
            shutil.rmtree(folder, ignore_errors=True)


def remove_stale(
    run: Path, entry: str, *, asked: str | None, environ: Mapping[str, str], now: float | None = None
) -> None:
    """At the start of a job: remove what jobs left that were killed, this user's alone.

    What an entry that is still here has made stays: it leads another rank on this node, or another job. Of other runs
    what has changed in the last `STALE_S` stays, too, whose entry may be where we do not see it.
    """
    now = time.time() if now is None else now
    for folder, run_hash, owner in _own_folders(_node_of(entry), asked, environ):
        is_mine, is_quiet = run_hash == _hash(run), now - _changed(folder) > STALE_S
        if owner != entry and (is_mine or is_quiet) and not _is_alive(owner):
            shutil.rmtree(folder, ignore_errors=True)


def places(asked: str | None, environ: Mapping[str, str]) -> list[Path]:
    """Folders of this node to choose from, best first: the one asked for, alone; else the job's own, disk, memory."""
    if asked is not None:
        expanded = _expanded(asked, environ)
        return [expanded] if expanded and expanded.is_dir() else []
    named = [environ.get("SLURM_TMPDIR"), environ.get("TMPDIR"), "/tmp", "/dev/shm"]
    found = dict.fromkeys(Path(name) for name in named if name)
    return [place for place in found if place.is_dir() and os.access(place, os.W_OK) and _is_nodes(place)]


def room(place: Path) -> int:
    """Bytes that may be written there, less a reserve; in memory also what the job's own limit leaves."""
    free = shutil.disk_usage(place).free
    if _kind(place) in ("tmpfs", "ramfs"):
        free = min([free, *_memory_left()])
    return free - SPARE_BYTES


def is_private(folder: Path) -> bool:
    """Whether it is a folder of this user that nobody else may read, and no link to one."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid() and not status.st_mode & 0o077


def _own_folders(node: str, asked: str | None, environ: Mapping[str, str]) -> Iterator[tuple[Path, str, str]]:
    """This user's folders that jobs on this node have made: path, hash of the run, entry."""
    for place in places(asked, environ):
        with contextlib.suppress(OSError):
            for folder in place.glob(f"sedd-state-{os.geteuid()}-*"):
                match = _NAME.fullmatch(folder.name)
                if match and _node_of(match[3]) == node and is_private(folder):
                    yield folder, match[2], match[3]


def _folder_name(run: Path, entry: str) -> str:
    return f"sedd-state-{os.geteuid()}-{_hash(run)}-{entry}"


def _hash(run: Path) -> str:
    return hashlib.sha256(str(run.resolve()).encode()).hexdigest()[:16]


def _this_node() -> str:
    return hashlib.sha256(os.uname().nodename.encode()).hexdigest()[:8]


def _node_of(entry: str | None) -> str:
    """The node of an entry, which a process in a container may know by another name; without one, this node."""
    return entry.rpartition("-")[2] if entry else _this_node()


def _is_alive(entry: str) -> bool:
    try:
        return entry_name(int(entry.partition("-")[0])) == entry
    except OSError:
        return False


def _changed(folder: Path) -> float:
    """When something was last written there, or in one of its folders: each rank may have one."""
    times = []
    for path in (folder, *folder.glob("*/")):
        with contextlib.suppress(OSError):
            times.append(path.stat().st_mtime)
    return max(times, default=0.0)


def _expanded(folder: str, environ: Mapping[str, str]) -> Path | None:
    """The folder with `~` and `$VARIABLES` replaced; None where one is not known."""
    names = re.findall(r"\$\{?(\w+)\}?", folder)
    if any(name not in environ for name in names):
        return None
    try:
        return expand_home(re.sub(r"\$\{?(\w+)\}?", lambda found: environ[found[1]], folder))
    except UsageError:
        return None


def _is_nodes(place: Path) -> bool:
    """Whether the folder is the node's own, as far as its file system tells."""
    kind = _kind(place)
    return kind not in _SHARED_KINDS and not kind.startswith("fuse")


def _kind(place: Path) -> str:
    """The kind of the file system that holds a folder; "" where it is not known."""
    try:
        text, real = Path("/proc/self/mounts").read_text(), str(place.resolve())
    except OSError:
        return ""
    kinds = {}
    for line in text.splitlines():
        _, point, kind, *_ = line.split(" ")
        point = point.replace("\\040", " ")
        if real == point or real.startswith(point.rstrip("/") + "/"):
            kinds[point] = kind
    return kinds[max(kinds, key=len)] if kinds else ""


def _memory_left() -> Iterator[int]:
    """What each limit on the memory of this process leaves (control groups; the files of version 2, then of 1)."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        root = Path("/sys/fs/cgroup", controllers)
        limit, used = (
            ("memory.limit_in_bytes", "memory.usage_in_bytes")
            if controllers
            else ("memory.max", "memory.current")
        )
        own = root / path.lstrip("/")
        for group in (own, *own.parents):
            if not group.is_relative_to(root):
                break
            with contextlib.suppress(OSError, ValueError):  # "max" is no number, and the root has no limit
                yield int((group / limit).read_text()) - int((group / used).read_text())
