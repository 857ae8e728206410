"""One attempt of a run at a time: a lock on its folder that lives as long as any process of the attempt."""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sedd.errors import RunError

_BUSY = (errno.EWOULDBLOCK, errno.EACCES)
POLL_S = 0.5


@contextlib.contextmanager
def held(path: Path, *, patience_s: float) -> Iterator[int]:
    """Hold the lock of a run folder; yields a descriptor that children keep open to hold it too.

    Where the file system has no such locks the scheduler alone keeps attempts apart.

    Raises:
        RunError: another attempt still runs after `patience_s`.
    """
    handle = os.open(path, os.O_RDONLY)
    try:
        deadline = time.monotonic() + patience_s
        while not _try_lock(handle):
            if time.monotonic() > deadline:
                raise RunError(f"another attempt of {path} is still running", hint="sedd status shows it")
            time.sleep(POLL_S)
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def one_of(slots: Sequence[Path], *, is_unwanted: Callable[[], bool]) -> Iterator[bool]:
    """Hold one of the slots, waiting for it; yields False when `is_unwanted` became true first."""
    handles = [os.open(slot, os.O_RDWR) for slot in slots]  # NFS locks only what is open for writing
    try:
        while not (free := any(map(_try_lock, handles))) and not is_unwanted():
            time.sleep(POLL_S)
        yield free
    finally:
        for handle in handles:
            os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as e:
        return e.errno not in _BUSY
    return True
