"""Exit codes by which a training process tells its job entry how it ended."""

from enum import IntEnum


class Exit(IntEnum):
    """Anything else, and death by a signal, is a crash or a kill."""

    COMPLETED = 0
    CRASHED = 1
    DISK_FULL = 74
    """A crash that may have left no word in the run folder: there was no room for one (EX_IOERR)."""
    STOPPED = 75
    """Asked to stop by a signal; a checkpoint is on disk (EX_TEMPFAIL of sysexits.h)."""
    NODE_FAULT = 76
    """This node cannot run the job: failed preflight, CUDA, NCCL or ECC error."""
