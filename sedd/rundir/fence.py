"""Let only the newest attempt write into a run folder.

SLURM gives a lost node's jobs to other nodes while their processes still run there. When the old node finds the
folder again two attempts of one run are alive; the older one has to notice, and to end without a trace.
"""

from collections.abc import Sequence
from pathlib import Path

from sedd.errors import SeddError
from sedd.rundir.events import Event, read_events


class SupersededError(SeddError):
    """A newer attempt of the run has begun: this one may write no more."""


def newest_attempt(events: Sequence[Event]) -> int:
    """Number of the attempt that began last; 0 before the first."""
    return next((event.attempt for event in reversed(events) if event.event == "attempt_started"), 0)


def require_newest(events: Path, *, attempt: int) -> None:
    """Before a file of the run is replaced. Raises: SupersededError, RunError."""
    require_newest_in(read_events(events), attempt=attempt)


def require_newest_in(events: Sequence[Event], *, attempt: int) -> None:
    """As `require_newest`, by events that were read just now. Raises: SupersededError."""
    newest = newest_attempt(events)
    if newest > attempt:
        raise SupersededError(f"attempt {attempt} ends: attempt {newest} of this run has begun elsewhere")
