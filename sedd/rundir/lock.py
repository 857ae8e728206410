"""Locks that die with their holder: one attempt of a run at a time, one submission of a name at a time.

flock, not files that exist or not: what a killed process leaves behind would lock for ever. Linux makes it a lock of
the whole NFS server (or of Lustre, mounted with `flock`); where a file system has none, nothing is kept apart.
"""

import contextlib
import datetime as dt
import errno
import fcntl
import itertools
import json
import os
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path

from sedd.errors import RunError
from sedd.rundir.layout import RunDir
from sedd.rundir.owner import other_owner, user_of
from sedd.rundir.presence import is_gone
from sedd.rundir.shared_folder import make_shared, open_to_all
from sedd.waiting import pause, told_if_slow

_BUSY = (errno.EWOULDBLOCK, errno.EACCES)
POLL_S = 0.2
ACTION_PATIENCE_S = 150.0
"""For another cancel or requeue of the same run: it may be ending processes, or waiting for a slow SLURM."""


class BusyError(RunError):
    """Somebody else holds a lock for longer than we wait."""


@contextlib.contextmanager
def held(path: Path, *, patience_s: float) -> Iterator[int]:
    """Hold the lock of a run folder; yields a descriptor that children keep open to hold it too.

    Raises:
        RunError: another attempt still runs after `patience_s`.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        if not _lock_within(handle, patience_s):
            raise RunError(f"another attempt of {path} is still running", hint="sedd status shows it")
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def alone(path: Path, *, patience_s: float, hint: str | None = None) -> Iterator[int]:
    """Hold the lock of a file, which is made when it is not there; it stays. Yields its descriptor.

    Whoever may write into its folder may hold it, whatever the umask of who made it.

    `hint` says what to do where its folder cannot be written.

    Raises:
        RunError: somebody else still holds it after `patience_s`, or it cannot be made.
    """
    try:
        make_shared(path.parent)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)  # NFS locks only what is open for writing
    except OSError as e:
        there = path if os.path.isfile(path) else f"into {path.parent}"
        raise RunError(f"cannot write {there}: {(e.strerror or str(e)).lower()}", hint=hint) from e
    with contextlib.suppress(OSError):  # of another user, who has done this
        open_to_all(handle, path.parent)
    try:
        with told_if_slow(lambda: f"{_holder_of(handle)} holds {path}", limit_s=patience_s):
            is_ours = _lock_within(handle, patience_s)
        if not is_ours:
            raise BusyError(
                f"{_holder_of(handle)} still holds {path}", hint="is it waiting for a slow SLURM?"
            )
        _sign(handle)
        try:
            yield handle
        finally:
            with contextlib.suppress(OSError):
                os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _sign(handle: int) -> None:
    """Write into a lock's file who holds it, for those who wait; on a full disk it stays empty."""
    holder = {
        "command": _own_command(),
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "uid": os.geteuid(),
        "since": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
    }
    with contextlib.suppress(OSError):
        os.ftruncate(handle, 0)
        os.pwrite(handle, json.dumps(holder).encode(), 0)


def _own_command() -> str:
    """`sedd requeue`, or `sedd.job.entry` of a job: without what it was asked, which may be nobody's business."""
    program = Path(sys.argv[0])
    if program.stem in ("sedd", "__main__"):
        return " ".join(["sedd", *itertools.takewhile(str.isalpha, sys.argv[1:2])])
    within = itertools.dropwhile(lambda part: part != "sedd", program.with_suffix("").parts)
    return ".".join(within) or program.stem


def _holder_of(handle: int) -> str:
    """Who holds a lock, by what the holder has written: "`sedd requeue` (process 4711 of ada on login1, since …)"."""
    try:
        holder = json.loads(os.pread(handle, 1 << 12, 0))
        command, pid, host = str(holder["command"]), int(holder["pid"]), str(holder["host"])
        user, since = user_of(int(holder["uid"])), dt.datetime.fromisoformat(holder["since"])
    except (OSError, ValueError, KeyError, TypeError):
        return "another sedd command"
    is_gone_now = host == socket.gethostname() and not Path(f"/proc/{pid}").exists()
    ended = ", which has ended; a command that it started has it" if is_gone_now else ""
    return f"`{command}` (process {pid} of {user} on {host}, since {since:%H:%M:%S} UTC{ended})"


@contextlib.contextmanager
def one_action(run: RunDir) -> Iterator[None]:
    """Keep other `sedd cancel` and `sedd requeue` of a run waiting: each looks at it and acts before the next looks.

    Raises:
        RunError: another one still holds it, or the run folder cannot be written.
    """
    if is_gone(run.path):
        raise RunError(f"the run folder {run.path} has vanished")
    if other_owner(run) or not os.access(run.path, os.W_OK):
        yield  # another user's: what may not be recorded in the folder is refused, with the reason
        return
    with alone(run.path / ".action.lock", patience_s=ACTION_PATIENCE_S):
        yield


@contextlib.contextmanager
def one_of(
    groups: Collection[tuple[Path, ...]], *, is_unwanted: Callable[[], bool]
) -> Iterator[tuple[tuple[Path, ...], tuple[int, ...]] | None]:
    """Hold all slots of one of the groups, waiting for them; None when `is_unwanted` became true first.

    Yields which group, and descriptors that children keep open to hold it too: it is taken until they, too, are gone.
    """
    slots = sorted({slot for group in groups for slot in group})
    handles = {slot: os.open(slot, os.O_RDWR) for slot in slots}  # NFS locks only what is open for writing
    try:
        while (free := next((g for g in groups if _try_lock_all([handles[s] for s in g])), None)) is None:
            if is_unwanted():
                break
            time.sleep(POLL_S)
        yield (free, tuple(handles[slot] for slot in free)) if free is not None else None
    finally:
        for handle in handles.values():
            os.close(handle)


def _try_lock_all(handles: Sequence[int]) -> bool:
    """Lock all of them, or none."""
    for number, handle in enumerate(handles):
        if not _try_lock(handle):
            for held_already in handles[:number]:
                fcntl.flock(held_already, fcntl.LOCK_UN)
            return False
    return True


def _lock_within(handle: int, patience_s: float) -> bool:
    deadline = time.monotonic() + patience_s
    while not (locked := _try_lock(handle)) and time.monotonic() < deadline:
        pause(POLL_S)
    return locked


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        return e.errno not in _BUSY
    return True
