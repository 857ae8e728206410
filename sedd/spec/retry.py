"""Spec of how often a run may start again, by cause."""

from pydantic import Field

from sedd.yaml import Duration, StrictModel


class RetrySpec(StrictModel):
    """Preemptions and time limits are free while the run makes progress; everything else has a budget."""

    crashes: int = Field(default=1, ge=0)
    """Restarts after a Python exception or a loss that stays not finite."""
    node_faults: int = Field(default=3, ge=0)
    """Restarts away from a node that failed its preflight or its GPU."""
    without_progress: int = Field(default=3, ge=1)
    """Attempts in a row, ended by whatever cause, that may leave no later checkpoint, nor a copy on their node from
    which the next one starts at a later step, than those before them."""
    exclude_slow: bool = False
    """Whether the next job of the run avoids nodes where a rank was slower than the others, or a card than it was."""
    standby: bool = True
    """Whether a process beside each training, with all imports done, waits for the next attempt in the job."""
    hang_after: Duration | None = 60
    """A training without progress for so long, and ten times its slowest step, is ended as hung and starts again;
    start-up, compilation, validation and saving have longer limits. null: never."""
