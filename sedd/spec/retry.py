"""Spec of how often a run may start again, by cause."""

from pydantic import Field

from sedd.yaml import StrictModel


class RetrySpec(StrictModel):
    """Preemptions and time limits are free while the run makes progress; everything else has a budget."""

    crashes: int = Field(default=1, ge=0)
    """Restarts after a Python exception or a loss that stays not finite."""
    node_faults: int = Field(default=3, ge=0)
    """Restarts away from a node that failed its preflight or its GPU."""
    without_progress: int = Field(default=3, ge=1)
    """Attempts in a row, ended by whatever cause, that may end at the step where they began."""
