"""Classify an error of a training process: the program's, the node's, a lost rank's, a full disk's."""

import errno
import re
from collections.abc import Iterator
from pathlib import Path

from sedd.errors import FULL, DiskFullError, MisfitError
from sedd.rundir.exits import Exit
from sedd.rundir.fence import SupersededError

_NODE_FAULTS = re.compile(
    r"uncorrectable ECC|ECC error|GPU has fallen off the bus|device-side hardware|unspecified launch failure"
    r"|CUDA-capable device\(s\) is/are busy|no CUDA-capable device|CUDA driver initialization failed"
    r"|CUDA error: (unknown error|initialization error|system not yet initialized|hardware stack error)"
    r"|NCCL error|ncclSystemError|ncclUnhandledCudaError|NVLink",
    re.IGNORECASE,
)
"""Words of CUDA, NCCL and the driver. Not out-of-memory and not illegal memory access: those come back anywhere."""
_WRONG_CALLS = re.compile(r"ncclInvalid(Usage|Argument)", re.IGNORECASE)
"""Words of NCCL for what is asked of it and would be refused anywhere, such as two ranks on one card."""
_LOST_PEERS = re.compile(
    r"ncclRemoteError|Connection (reset|closed) by peer|Broken pipe|Socket closed|Connection was likely closed"
    r"|Failed to recv, got 0 bytes",
    re.IGNORECASE,
)
"""Words of NCCL, gloo and torch's store for a rank that is gone: an innocent node says them of a dead one."""
_OF_MOUNT = (errno.EIO, errno.EROFS, errno.ESTALE, errno.ETIMEDOUT, errno.ENOTCONN, errno.ESHUTDOWN)
"""What a node says of a file system that it lost, or has mounted for reading alone; in the run folder it is a fault of
the node. A permission that is denied is none, and would be on any node: it counts as a crash."""


class NodeFaultError(Exception):
    """This node cannot run the job; another may."""

    def __init__(self, message: str, *, absent: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.absent = absent
        """Ranks that did not come to where all meet: it may be their nodes' fault instead."""


class PeerAbsentError(Exception):
    """Other ranks did not come to where all meet: their nodes are at fault, this one has only waited."""

    def __init__(self, message: str, *, absent: tuple[int, ...]) -> None:
        super().__init__(message)
        self.absent = absent


def exit_of(error: BaseException, *, folder: Path) -> Exit:
    """The exit code that tells the job entry what kind of error ended this process; `folder` is that of the run."""
    if isinstance(error, SupersededError):
        return Exit.SUPERSEDED
    if isinstance(error, MisfitError):
        return Exit.MISFIT
    if isinstance(error, PeerAbsentError):
        return Exit.PEER_LOST
    if any(map(_is_full, _chain(error))):
        return Exit.DISK_FULL
    if _is_of_torch(error) and _LOST_PEERS.search(str(error)):
        return Exit.PEER_LOST
    is_lost = any(
        _is_of_run(e, folder) and e.errno in _OF_MOUNT for e in _chain(error) if isinstance(e, OSError)
    )
    return Exit.NODE_FAULT if is_lost or is_node_fault(error) else Exit.CRASHED


def is_node_fault(error: BaseException) -> bool:
    """Whether another node would probably not show this error."""
    if isinstance(error, NodeFaultError):
        return True
    text = str(error) if _is_of_torch(error) else ""
    return _NODE_FAULTS.search(text) is not None and _WRONG_CALLS.search(text) is None


def _is_of_torch(error: BaseException) -> bool:
    """Whether the words may be those of CUDA, NCCL or gloo; in an error about a file its name might hold them."""
    return isinstance(error, RuntimeError)


def _is_full(error: BaseException) -> bool:
    """Whether nothing can be written as long as nobody makes space."""
    return isinstance(error, DiskFullError) or (isinstance(error, OSError) and error.errno in FULL)


def _is_of_run(error: OSError, folder: Path) -> bool:
    return isinstance(error.filename, str) and Path(error.filename).is_relative_to(folder)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what led to it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
