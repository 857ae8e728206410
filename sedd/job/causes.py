"""What ended an attempt: from facts of the process, the run folder and the scheduler. Pure."""

import datetime as dt
import signal
from collections.abc import Sequence
from dataclasses import dataclass

from sedd.cluster.jobs import JobFact
from sedd.cluster.stopping import Stopping, stopping
from sedd.launch.pickled_job import STOP_SIGNALS
from sedd.rundir.attempts import MOVED_BY, Cause, is_cancelled
from sedd.rundir.events import Event
from sedd.rundir.exits import ENDED_WELL, Exit

EARLY_S = 70.0
"""SLURM sends the `--signal` signal up to 60 s early (sbatch(1)); the rest is our own delay."""

_BY_EXIT: dict[int, Cause] = {
    Exit.NODE_FAULT: Cause.NODE_FAULT,
    Exit.DISK_FULL: Cause.DISK_FULL,
    Exit.PEER_LOST: Cause.KILLED,
    -signal.SIGKILL: Cause.KILLED,
    128 + signal.SIGKILL: Cause.KILLED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """How the training processes of an attempt ended."""

    exit_code: int | None
    """As Popen's: negative is the signal that killed it. None: it did not end while there was time to wait for it."""
    signals: frozenset[int]
    """Stop signals that the job entry received during the attempt."""
    time_left_s: float | None
    """To the walltime of the attempt, where the job entry keeps it itself."""
    rank: int
    error: str | None = None
    """What is known of a process that ended before it could say anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmFacts:
    """What SLURM says at the end of an attempt."""

    job: JobFact | None
    """None: it does not answer, or forgot the job."""
    restarts: int
    """`SLURM_RESTART_COUNT` of the attempt."""
    lead_s: float
    """Lead time of the `--signal` signal."""


def cause_of(ending: Ending, events: Sequence[Event], slurm: SlurmFacts | None, *, now: dt.datetime) -> Cause:
    """The cause of an attempt's end, by the run's events; `slurm` is None under the local executor."""
    if ending.exit_code == Exit.COMPLETED or is_finished(events):
        return Cause.COMPLETED
    if is_cancelled(events):
        return Cause.CANCELLED
    failure, wish, code = first_failure(events), _wish(slurm), ending.exit_code
    if code == Exit.PAUSED or _stands_at_rung(events):
        return Cause.PAUSED
    was_asked = any(map(is_stop, ending.signals)) or wish is not Stopping.NO
    if code is None:
        is_hung = (
            failure is Cause.HUNG and not was_asked
        )  # not even SIGKILL ends it: it waits for a dead disk
        return Cause.HUNG if is_hung else _stop_cause(ending, events, slurm, now)
    was_asked = was_asked or is_stop(-code)
    if failure and slurm and wish is Stopping.NO and signal.SIGUSR2 not in ending.signals:
        return (
            failure  # SLURM wants nothing: this SIGTERM is srun's, which ends a step when one rank has failed
        )
    # A process that fails after it was asked to stop says nothing about the program: its peers may be gone.
    if code == Exit.STOPPED or was_asked:
        return _stop_cause(ending, events, slurm, now)
    if code in (Exit.NODE_FAULT, Exit.DISK_FULL):
        return by_exit(code)
    return failure or by_exit(code)


def is_finished(events: Sequence[Event]) -> bool:
    """Whether the newest attempt has saved its last step: whatever its processes do after that changes nothing."""
    return any(e.event == "checkpoint" and e.get("reason") == "last" for e in in_newest_attempt(events))


def _stands_at_rung(events: Sequence[Event]) -> bool:
    """Whether the newest attempt has saved at a rung that it may not pass yet: however it ended, its fellows decide."""
    newest = [e for e in in_newest_attempt(events) if e.event in ("rung", "promoted")]
    return bool(newest) and newest[-1].event == "rung"


def is_stop(number: int) -> bool:
    """Whether a signal asks for the end of an attempt."""
    return number in STOP_SIGNALS and number != signal.SIGCONT


def by_exit(code: int) -> Cause:
    """The cause that an exit code alone tells; a container runtime turns signal 9 into exit code 137."""
    return _BY_EXIT.get(code, Cause.CRASHED)


def first_failure(events: Sequence[Event]) -> Cause | None:
    """The root among the failures of the newest attempt: when one rank is lost the others fail after it."""
    failures = [e for e in in_newest_attempt(events) if e.event == "failed"]
    causes = {e.get("cause") for e in failures if not e.get("lost_peer")}
    by_weight = (Cause.NODE_FAULT, Cause.DISK_FULL, Cause.HUNG, Cause.KILLED, Cause.CRASHED)
    return next((c for c in by_weight if c in causes), Cause.KILLED if failures else None)


def in_newest_attempt(events: Sequence[Event]) -> Sequence[Event]:
    """The events of the newest attempt, from its start on; none before the first."""
    starts = [number for number, event in enumerate(events) if event.event == "attempt_started"]
    return [e for e in events[starts[-1] :] if e.attempt == events[starts[-1]].attempt] if starts else ()


def describe_exit(code: int) -> str:
    """`killed by SIGKILL`, `exit code 1`."""
    if code == Exit.DISK_FULL:
        return "the disk of the run folder is full, or its quota is used up"
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def _wish(slurm: SlurmFacts | None) -> Stopping:
    """What SLURM wants of the job, as far as it says."""
    job = slurm.job if slurm else None
    return stopping(job, restarts=slurm.restarts) if slurm and job else Stopping.NO


def _stop_cause(ending: Ending, events: Sequence[Event], slurm: SlurmFacts | None, now: dt.datetime) -> Cause:
    """Who asked for the stop."""
    wish = _wish(slurm)
    if wish is Stopping.CANCELLED:
        return Cause.CANCELLED
    if any(e.event == "stop_requested" and e.get("by") == MOVED_BY for e in in_newest_attempt(events)):
        return Cause.MOVED
    if wish is not Stopping.NO:
        return Cause.TIME_LIMIT if wish is Stopping.TIME_LIMIT else Cause.PREEMPTED
    if slurm is None:
        is_over = ending.time_left_s is not None and ending.time_left_s <= 0
    else:
        warned_s = slurm.lead_s if signal.SIGUSR2 in ending.signals else 0.0
        left_s = time_left_s(slurm.job, now) if slurm.job else None
        is_over = left_s is not None and left_s <= warned_s + EARLY_S
    return Cause.TIME_LIMIT if is_over else Cause.PREEMPTED


def time_left_s(job: JobFact, now: dt.datetime) -> float | None:
    """Seconds to the job's time limit; None when it has not started, or has no limit."""
    if job.starts_at is None or job.time_limit_s is None:
        return None
    return job.time_limit_s - (now - job.starts_at).total_seconds()


def severity(code: int) -> int:
    """Order exits: the one that explains the others is the largest."""
    if code in ENDED_WELL:
        return 0 if code == Exit.COMPLETED else 1
    if is_stop(-code) or code == Exit.PEER_LOST:
        return 2
    return 4 if code == Exit.NODE_FAULT or code < 0 else 3
