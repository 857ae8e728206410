"""The states of a run, and the causes that end attempts, in words."""

from enum import StrEnum

from sedd.rundir.attempts import Cause


class State(StrEnum):
    """What a run is doing."""

    UNSUBMITTED = "not submitted"
    """A point of a sweep for which the site had no place yet: no job."""
    QUEUED = "queued"
    PREFLIGHT = "preflight"
    """Its job has a node; training has not begun."""
    RUNNING = "running"
    CHECKPOINTING = "checkpointing"
    REQUEUED = "requeued"
    """An attempt ended, another will follow."""
    STALLED = "stalled"
    """Its job runs, its heartbeat stopped."""
    LOST = "lost"
    """No job, no process and no last word: killed."""
    GAVE_UP = "gave up"
    """The retry policy's last word."""
    PAUSED = "paused"
    """It waits at a rung of its halving sweep for the other points: no job."""
    STOPPED = "stopped by rule"
    """Its halving sweep does without it."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"
    INTERRUPTED = "interrupted"
    """Its user stopped it in the foreground; it saved."""
    UNKNOWN = "unknown"
    """Its events may not be read by this user, and its heartbeat says no more."""

    @property
    def is_final(self) -> bool:
        """Whether nothing more will happen unless a user does something."""
        return self in _FINAL

    @property
    def is_success(self) -> bool:
        return self in (State.COMPLETED, State.STOPPED)

    @property
    def is_trouble(self) -> bool:
        """Whether somebody should have a look."""
        return self in _TROUBLE


BY_CARE = (
    State.STALLED,
    State.LOST,
    State.GAVE_UP,
    State.FAILED,
    State.UNKNOWN,
    State.RUNNING,
    State.CHECKPOINTING,
    State.PREFLIGHT,
    State.REQUEUED,
    State.QUEUED,
    State.PAUSED,
    State.UNSUBMITTED,
    State.COMPLETED,
    State.STOPPED,
    State.INTERRUPTED,
    State.CANCELLED,
)
"""Every state, those first that a user should hear of first."""
_TROUBLE = frozenset(BY_CARE[:4])
_FINAL = frozenset(
    {
        *(State.LOST, State.GAVE_UP, State.COMPLETED, State.FAILED),
        *(State.CANCELLED, State.INTERRUPTED, State.STOPPED),
    }
)


def cause_words(cause: object) -> str:
    """`time limit` for `time_limit`."""
    return str(cause or "").replace("_", " ")


def after_words(cause: object) -> str:
    """`after the time limit` for `time_limit`; of a cause without a noun its name."""
    return f"after {_NOUNS.get(str(cause), cause_words(cause))}" if cause else ""


_NOUNS: dict[str, str] = {
    Cause.PREEMPTED: "a preemption",
    Cause.TIME_LIMIT: "the time limit",
    Cause.MOVED: "a move",
    Cause.PAUSED: "a pause at a rung",
    Cause.NODE_FAULT: "a node fault",
    Cause.KILLED: "a kill",
    Cause.CRASHED: "a crash",
    Cause.HUNG: "a hang",
    Cause.DISK_FULL: "a full disk or quota",
}
