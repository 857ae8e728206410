"""Exit codes by which a training process tells its job entry how it ended."""

from enum import IntEnum


class Exit(IntEnum):
    """Anything else, and death by a signal, is a crash or a kill."""

    COMPLETED = 0
    CRASHED = 1
    MISFIT = 65
    """What the task was given does not fit, as any attempt would find (EX_DATAERR)."""
    DISK_FULL = 74
    """Nothing can be saved, perhaps not even a word of it: the disk or the quota is full (EX_IOERR)."""
    STOPPED = 75
    """Asked to stop by a signal; a checkpoint is on disk (EX_TEMPFAIL of sysexits.h)."""
    NODE_FAULT = 76
    """This node cannot run the job: failed preflight, CUDA, NCCL or ECC error."""
    SUPERSEDED = 77
    """A newer attempt of the run has begun elsewhere; nothing was written since."""
    PAUSED = 79
    """It stands at a rung of its halving sweep, its checkpoint is on disk, and it was not let pass yet."""
    PEER_LOST = 78
    """Another rank is gone; what ended it is that rank's to say."""


ENDED_WELL = (Exit.COMPLETED, Exit.STOPPED, Exit.PAUSED)
"""Of a training that has saved what it came to."""
