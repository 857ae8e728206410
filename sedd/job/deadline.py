"""How long a training that was asked to stop may take before the next attempt is secured without it. Pure.

SLURM ends a job at its time, whether the training has saved or hangs. What SLURM has ended can no longer ask for
another attempt, so that is asked for shortly before; the training may use the rest (KillWait) to finish its save.
"""

import datetime as dt
import signal
from dataclasses import dataclass

from sedd.cluster.jobs import JobFact
from sedd.cluster.states import JobState
from sedd.cluster.stopping import Stopping, stopping

PATIENCE_S = 900.0
"""For a training that nothing else will end: it may be writing a large checkpoint."""
EXIT_S = 10.0
"""For a training that has saved everything, to exit."""
_LEAST_S, _MOST_S = 3.0, 20.0
"""What asking SLURM may take: a second usually, longer where the controller is busy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StopFacts:
    """What is known when a job is asked to stop."""

    executor: str
    """`slurm` or `local`."""
    job: JobFact | None
    """None: SLURM does not answer, or there is none."""
    restarts: int
    """`SLURM_RESTART_COUNT` of the attempt."""
    kill_wait_s: float
    """From SLURM's SIGTERM to its SIGKILL."""
    lead_s: float
    """How long before the time limit SLURM sends its warning, SIGUSR2."""
    signals: frozenset[int]
    save_s: float | None
    """The longest that a checkpoint of this run took."""


def seconds_to_secure(facts: StopFacts, *, now: dt.datetime) -> float:
    """How long the training may go on from now, until the next attempt is asked for."""
    patience_s = max(PATIENCE_S, 10 * (facts.save_s or 0.0))
    left_s = _left_s(facts, now)
    if left_s is None:
        return patience_s
    reserve_s = min(_MOST_S, max(_LEAST_S, left_s / 4))
    return min(patience_s, max(0.0, left_s - reserve_s))


def _left_s(facts: StopFacts, now: dt.datetime) -> float | None:
    """Seconds until SLURM takes the job down by force; None when it is not about to."""
    job = facts.job
    if facts.executor != "slurm":
        return None
    if job is None:
        is_warning_only = signal.SIGUSR2 in facts.signals and signal.SIGTERM not in facts.signals
        return facts.lead_s if is_warning_only else facts.kill_wait_s
    is_ending = job.state is JobState.COMPLETING or job.state.is_final
    if is_ending or stopping(job, restarts=facts.restarts) in (Stopping.REQUEUED, Stopping.CANCELLED):
        return facts.kill_wait_s
    # The end of the time limit; in the grace time of a preemption that of the grace.
    return (job.ends_at - now).total_seconds() if job.ends_at is not None else None
