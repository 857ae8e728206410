"""What SLURM says a job is doing, in one vocabulary for squeue, sacct and scontrol of every version."""

import enum
import functools
import re


class JobState(enum.StrEnum):
    """A job's state.

    `PREEMPTED` is not final: sacct shows it for an attempt whose job continues. From squeue and scontrol it is the
    end of a job that PreemptMode=CANCEL took down; a requeued one is PENDING there.
    """

    PENDING = "pending"
    REQUEUED = "requeued"
    CONFIGURING = "configuring"
    RUNNING = "running"
    SUSPENDED = "suspended"
    COMPLETING = "completing"
    PREEMPTED = "preempted"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    TIMEOUT = "timeout"
    NODE_FAIL = "node_fail"
    OUT_OF_MEMORY = "out_of_memory"
    UNKNOWN = "unknown"

    @property
    def is_final(self) -> bool:
        """Whether the job ended; only `scontrol requeue` could bring it back."""
        return self in _FINAL

    @property
    def is_waiting(self) -> bool:
        """Whether the job is in the queue and will start by itself (unless it is held)."""
        return self in (JobState.PENDING, JobState.REQUEUED)

    @property
    def has_nodes(self) -> bool:
        """Whether the job holds nodes now."""
        return self in _HAS_NODES


_FINAL = frozenset(
    {
        JobState.COMPLETED,
        JobState.FAILED,
        JobState.CANCELLED,
        JobState.TIMEOUT,
        JobState.NODE_FAIL,
        JobState.OUT_OF_MEMORY,
    }
)
_HAS_NODES = frozenset({JobState.CONFIGURING, JobState.RUNNING, JobState.SUSPENDED, JobState.COMPLETING})

# Names and codes of squeue(1) and sacct(1), 20.11 to 25.11. A state that no caller treats in its own way is
# folded into the one it is a kind of.
_NAMES = {
    "BOOT_FAIL": JobState.NODE_FAIL,
    "BF": JobState.NODE_FAIL,
    "CANCELLED": JobState.CANCELLED,
    "CA": JobState.CANCELLED,
    "COMPLETED": JobState.COMPLETED,
    "CD": JobState.COMPLETED,
    "COMPLETING": JobState.COMPLETING,
    "CG": JobState.COMPLETING,
    "CONFIGURING": JobState.CONFIGURING,
    "CF": JobState.CONFIGURING,
    "DEADLINE": JobState.TIMEOUT,
    "DL": JobState.TIMEOUT,
    "EXPEDITING": JobState.PENDING,
    "EX": JobState.PENDING,
    "FAILED": JobState.FAILED,
    "F": JobState.FAILED,
    "LAUNCH_FAILED": JobState.NODE_FAIL,
    "LF": JobState.NODE_FAIL,
    "NODE_FAIL": JobState.NODE_FAIL,
    "NF": JobState.NODE_FAIL,
    "OUT_OF_MEMORY": JobState.OUT_OF_MEMORY,
    "OOM": JobState.OUT_OF_MEMORY,
    "PENDING": JobState.PENDING,
    "PD": JobState.PENDING,
    "POWER_UP_NODE": JobState.CONFIGURING,
    "PO": JobState.CONFIGURING,
    "PREEMPTED": JobState.PREEMPTED,
    "PR": JobState.PREEMPTED,
    "RECONFIG_FAIL": JobState.NODE_FAIL,
    "REQUEUED": JobState.REQUEUED,
    "RQ": JobState.REQUEUED,
    "REQUEUE_FED": JobState.REQUEUED,
    "RF": JobState.REQUEUED,
    "REQUEUE_HOLD": JobState.REQUEUED,
    "RH": JobState.REQUEUED,
    "RESIZING": JobState.RUNNING,
    "RS": JobState.RUNNING,
    "RESV_DEL_HOLD": JobState.PENDING,
    "RD": JobState.PENDING,
    "REVOKED": JobState.CANCELLED,
    "RV": JobState.CANCELLED,
    "RUNNING": JobState.RUNNING,
    "R": JobState.RUNNING,
    "SIGNALING": JobState.RUNNING,
    "SI": JobState.RUNNING,
    "SPECIAL_EXIT": JobState.REQUEUED,
    "SE": JobState.REQUEUED,
    "STAGE_OUT": JobState.COMPLETING,
    "SO": JobState.COMPLETING,
    "STOPPED": JobState.SUSPENDED,
    "ST": JobState.SUSPENDED,
    "SUSPENDED": JobState.SUSPENDED,
    "S": JobState.SUSPENDED,
    "TIMEOUT": JobState.TIMEOUT,
    "TO": JobState.TIMEOUT,
    "UPDATE_DB": JobState.COMPLETING,
    "UD": JobState.COMPLETING,
}


@functools.lru_cache(maxsize=256)
def parse_state(text: str) -> JobState:
    """The state in `RUNNING`, `CD`, `CANCELLED by 1000`, `CANCELLED+` or `RUNNING,SIGNALING`.

    A word of some later SLURM is `UNKNOWN`, never an error: a monitor must survive an upgrade of the cluster.
    """
    first = re.split(r"[\s,+|]", text.strip(), maxsplit=1)[0]
    return _NAMES.get(first.upper(), JobState.UNKNOWN)
