"""Whether an error is a fault of the node, and whether it reaches the log."""

import errno
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from sedd.errors import CheckpointError, DataError, DiskFullError
from sedd.rundir.exits import Exit
from sedd.rundir.fence import SupersededError
from sedd.training import distributed
from sedd.training.distributed import Ranks, connected
from sedd.training.faults import NodeFaultError, exit_of

RUN = Path("/runs/a/b")
TWICE = """invalid usage (run with NCCL_DEBUG=WARN for details), NCCL version 2.21.5
ncclInvalidUsage: This usually reflects invalid usage of NCCL library.
Last error:
Duplicate GPU detected : rank 1 and rank 0 both on CUDA device 1000"""


def caused_by(cause: OSError) -> CheckpointError:
    error = CheckpointError("cannot write step-00000010.pt")
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("shapes differ"), Exit.CRASHED),
        (DataError("no such store"), Exit.CRASHED),
        (DataError("cannot read /data/NVLink/nccl error/p.store"), Exit.CRASHED),
        (FileNotFoundError(errno.ENOENT, "No such file", "/runs/ECC error: broken pipe"), Exit.CRASHED),
        (OSError(errno.EACCES, "Permission denied"), Exit.CRASHED),
        (PermissionError(errno.EACCES, "Permission denied", "/data/p.store/tokens.bin"), Exit.CRASHED),
        (PermissionError(errno.EACCES, "Permission denied", "/runs/a/bcd/metrics.jsonl"), Exit.CRASHED),
        (PermissionError(errno.EACCES, "Permission denied", "/runs/a/b/metrics.jsonl"), Exit.CRASHED),
        (PermissionError(errno.EPERM, "Not permitted", "/runs/a/b/checkpoints/x.pt"), Exit.CRASHED),
        (caused_by(PermissionError(errno.EACCES, "no", "/runs/a/b/checkpoints")), Exit.CRASHED),
        (caused_by(FileNotFoundError(errno.ENOENT, "no", "/runs/a/b/checkpoints")), Exit.CRASHED),
        (caused_by(OSError(errno.EIO, "Input/output error", "/runs/a/b/checkpoints/x.pt")), Exit.NODE_FAULT),
        (caused_by(OSError(errno.ESTALE, "Stale file handle", "/runs/a/b/checkpoints")), Exit.NODE_FAULT),
        (OSError(errno.EIO, "Input/output error", "/data/p.store/tokens.bin"), Exit.CRASHED),
        (OSError(errno.EROFS, "Read-only file system"), Exit.CRASHED),
        (OSError(errno.EROFS, "Read-only file system", "/data/p.store/x"), Exit.CRASHED),
        (caused_by(OSError(errno.EROFS, "Read-only", "/runs/a/b/checkpoints/x.pt")), Exit.NODE_FAULT),
        (NodeFaultError("no card"), Exit.NODE_FAULT),
        (RuntimeError("CUDA error: uncorrectable ECC error encountered"), Exit.NODE_FAULT),
        (RuntimeError("NCCL error: unhandled system error (ncclSystemError)"), Exit.NODE_FAULT),
        (RuntimeError(f"NCCL error in: NCCLUtils.hpp:268, {TWICE}"), Exit.CRASHED),
        (
            RuntimeError("gloo/transport/tcp/pair.cc:537] Read error: Connection reset by peer."),
            Exit.PEER_LOST,
        ),
        (RuntimeError("pair.cc:553] Connection closed by peer [127.0.0.1]:38577"), Exit.PEER_LOST),
        (RuntimeError("Failed to recv, got 0 bytes. Connection was likely closed."), Exit.PEER_LOST),
        (RuntimeError("NCCL error: ncclRemoteError: a remote process exited"), Exit.PEER_LOST),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), Exit.DISK_FULL),
        (caused_by(OSError(errno.EDQUOT, "quota", "/runs/a/b/checkpoints/x.pt")), Exit.DISK_FULL),
        (DiskFullError("disk_space: 0 B free"), Exit.DISK_FULL),
        (caused_by(OSError(errno.ENOSPC, "No space left on device")), Exit.DISK_FULL),
        (SupersededError("attempt 2 has begun"), Exit.SUPERSEDED),
    ],
)
def test_an_error_becomes_the_exit_code_that_says_who_is_at_fault(error: Exception, expected: Exit) -> None:
    assert exit_of(error, folder=RUN) is expected


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Notes when ranks take leave of each other, where there is nobody to connect with."""
    taken: list[str] = []
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(dist, "destroy_process_group", lambda: taken.append("left"))
    monkeypatch.setattr(distributed, "Group", lambda *_: None)
    return taken


def test_at_the_end_every_rank_takes_leave(left: list[str]) -> None:
    with connected(Ranks(size=2), torch.device("cpu")):
        assert not left
    assert left == ["left"]


def test_a_rank_that_fails_waits_for_no_other_before_it_tells_why(left: list[str]) -> None:
    """With NCCL all ranks take leave together; the others are in an exchange with this one."""
    with pytest.raises(ValueError, match="its own"), connected(Ranks(size=2), torch.device("cpu")):
        raise ValueError("its own")
    assert not left
