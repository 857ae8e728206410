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
_WORDS = {
    JobState.PENDING: "EXPEDITING EX PENDING PD RESV_DEL_HOLD RD",
    JobState.REQUEUED: "REQUEUED RQ REQUEUE_FED RF REQUEUE_HOLD RH SPECIAL_EXIT SE",
    JobState.CONFIGURING: "CONFIGURING CF POWER_UP_NODE PO",
    JobState.RUNNING: "RESIZING RS RUNNING R SIGNALING SI",
    JobState.SUSPENDED: "STOPPED ST SUSPENDED S",
    JobState.COMPLETING: "COMPLETING CG STAGE_OUT SO UPDATE_DB UD",
    JobState.PREEMPTED: "PREEMPTED PR",
    JobState.COMPLETED: "COMPLETED CD",
    JobState.FAILED: "FAILED F",
    JobState.CANCELLED: "CANCELLED CA REVOKED RV",
    JobState.TIMEOUT: "DEADLINE DL TIMEOUT TO",
    JobState.NODE_FAIL: "BOOT_FAIL BF LAUNCH_FAILED LF NODE_FAIL NF RECONFIG_FAIL",
    JobState.OUT_OF_MEMORY: "OUT_OF_MEMORY OOM",
}
_STATES = {word: state for state, words in _WORDS.items() for word in words.split()}


@functools.lru_cache(maxsize=256)
def parse_state(text: str) -> JobState:
    """The state in `RUNNING`, `CD`, `CANCELLED by 1000`, `CANCELLED+` or `RUNNING,SIGNALING`.

    A word of some later SLURM is `UNKNOWN`, never an error: a monitor must survive an upgrade of the cluster.
    """
    first = re.split(r"[\s,+|]", text.strip(), maxsplit=1)[0]
    return _STATES.get(first.upper(), JobState.UNKNOWN)
