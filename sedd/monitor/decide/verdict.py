"""Decide the state of a run from its facts: pure, with `now` as an argument."""

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field

from sedd.cluster.jobs import JobFact
from sedd.cluster.states import JobState
from sedd.monitor.decide.state import State, after_words, cause_words
from sedd.monitor.read.disks import DISK_FULL
from sedd.monitor.read.facts import RunFacts
from sedd.monitor.read.history import History
from sedd.rundir.attempts import Cause
from sedd.rundir.events import Event
from sedd.rundir.heartbeat import STALE_S, Heartbeat, age_s
from sedd.units import format_duration

STARTUP_S = 600.0
"""How long an attempt may take to its first heartbeat: modules, imports, a cold file system."""
NO_ANSWER = "SLURM does not answer"
HIDDEN = "SLURM hides its job from others"
HUNG_S = 300.0
"""How long a beating training loop may go without a step: longer, and it hangs in a collective or on a disk."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A state and, where the state alone does not say it, why."""

    state: State
    why: str = field(default="")


def decide(facts: RunFacts, *, now: dt.datetime) -> Verdict:
    """What the run is doing, by its own last word first, then by its job, then by its heartbeat."""
    history = facts.history
    last = history.last
    if facts.unread_events:
        return _by_beat_alone(facts.beat, facts.unread_events, now)
    if last is not None and last.event == "completed":
        return Verdict(State.COMPLETED)
    if last is not None and last.event == "stopped":
        return Verdict(State.STOPPED, str(last.get("detail") or ""))
    if last is not None and last.event == "paused":
        return Verdict(State.PAUSED, f"at step {last.get('step')}, for the other points of its sweep")
    if history.cancelled or (last is not None and last.event == "cancelled"):
        by = last.get("by") if last is not None and last.event == "cancelled" else None
        return Verdict(State.CANCELLED, f"by {by}" if by else "")
    if last is not None and last.event == "gave_up" and last.get("cause") == Cause.INTERRUPTED:
        return Verdict(State.INTERRUPTED, str(last.get("detail") or ""))
    if last is not None and last.event == "gave_up":
        return Verdict(State.GAVE_UP, _why_gave_up(history, last))
    if last is not None and last.event == "failed":
        return _after_failure(facts, now)
    if last is None:
        return Verdict(State.UNSUBMITTED)
    if history.open_attempt is None:
        return _waiting(facts, now)
    return _in_attempt(facts, now)


def _by_beat_alone(beat: Heartbeat | None, unread: str, now: dt.datetime) -> Verdict:
    """What a heartbeat says to a user who may not read the events."""
    if beat is not None and beat.phase == "done" and beat.step >= beat.steps:
        return Verdict(State.COMPLETED)
    if beat is None or age_s(beat, now=now) > STALE_S:
        return Verdict(State.UNKNOWN, unread)
    hang = _hang(beat, now)
    return Verdict(State.STALLED, hang) if hang else Verdict(_phase_state(beat))


def _why_gave_up(history: History, last: Event) -> str:
    return _last_line(history.error) or _last_line(last.get("detail")) or cause_words(last.get("cause"))


def _after_failure(facts: RunFacts, now: dt.datetime) -> Verdict:
    """A process failed; its job entry has not yet said whether another attempt follows."""
    why = _last_line(facts.history.error)
    job, alive = _job(facts), facts.evidence.alive
    if job is not None and job.state.is_waiting:
        return Verdict(State.REQUEUED, _queue_words(job, now))
    deciding = _silent_s(facts, now) < STALE_S and alive is not False
    if deciding or alive or (job is not None and job.state.has_nodes):
        return Verdict(State.RUNNING, f"ending after {why}" if why else "ending after a failure")
    return Verdict(State.FAILED, why)


def _waiting(facts: RunFacts, now: dt.datetime) -> Verdict:
    """Made, submitted or requeued; no attempt has started since."""
    history, job = facts.history, _job(facts)
    again = history.last is not None and history.last.event == "requeued"
    state = State.REQUEUED if again else State.QUEUED
    after = after_words(history.last.get("cause")) if again and history.last else ""
    if again and history.last and history.last.get("cause") == Cause.DISK_FULL:
        after = _waits(facts.evidence.disk_full) or after
    if job is not None and job.state.is_final:
        return _ended_by_slurm(job, "before it could start", output=facts.evidence.output)
    if job is not None and job.state.has_nodes and not again:
        return Verdict(State.PREFLIGHT, "its node is starting" if job.state is JobState.CONFIGURING else "")
    if job is not None:
        return Verdict(state, _join(after, _queue_words(job, now)))
    slurm = facts.plan.executor == "slurm"
    if slurm and facts.evidence.slurm_down:
        return Verdict(state, _join(after, NO_ANSWER))
    if slurm and (unseen := _unseen(facts)):
        return Verdict(state, _join(after, unseen))
    if slurm and _is_taken(facts):
        return Verdict(State.LOST, _taken(facts))
    if facts.evidence.alive or _is_outdated(facts) or _silent_s(facts, now) < STALE_S:
        return Verdict(state, after)
    if slurm and history.job_id:
        return Verdict(State.LOST, facts.evidence.output or f"SLURM no longer knows job {history.job_id}")
    unstarted = f"{history.last.event if history.last else 'made'} but never started"
    return Verdict(State.LOST, facts.evidence.output or unstarted)


def _in_attempt(facts: RunFacts, now: dt.datetime) -> Verdict:
    """An attempt has started and has had no last word."""
    job, beat, full = _job(facts), _own_beat(facts), facts.evidence.disk_full
    silence = _silence(facts, now)
    if job is not None and job.state.is_waiting:
        after = _waits(full) or after_words(Cause.KILLED)
        return Verdict(State.REQUEUED, _join(after, _queue_words(job, now)))
    if job is not None and (job.state.is_final or (job.state is JobState.PREEMPTED and silence)):
        return _ended_by_slurm(job, "no last word", full)
    if job is None and facts.evidence.alive is False:
        return Verdict(State.LOST, _join(full, "killed: no process, no last word"))
    is_gone = job is None and facts.evidence.alive is None and not _is_in_doubt(facts)
    if is_gone and (silence or (facts.unread_beat and facts.plan.executor == "slurm")):
        gone = _taken(facts) if _is_taken(facts) else "killed: no job"
        return Verdict(State.LOST, _join(full, gone, silence or facts.unread_beat))
    if job is not None and job.state is JobState.SUSPENDED:
        return Verdict(State.STALLED, "suspended by SLURM")
    if full or silence or (silence := _hang(beat, now)):
        return Verdict(State.STALLED, _join(_waits(full), silence, _unseen(facts)))
    waits = f"{beat.waits_for or 'cannot save'}, waiting" if beat and beat.phase == "waiting" else ""
    state = _unseen_phase(facts) if facts.unread_beat else _phase_state(beat)
    if state is State.PREFLIGHT:  # a beat is seconds old, and its events may tell more
        state = _unseen_phase(facts)
    return Verdict(state, _join(waits, slow_words(beat), _oddity(facts)))


def slow_words(beat: Heartbeat | None) -> str:
    """`rank 3 on node7 is 23 % slower than the median`, of the slowest; or nothing."""
    rows = beat.slow if beat is not None and isinstance(beat.slow, list | tuple) else ()
    slow = [each for each in rows if isinstance(each, Mapping)]
    if not slow:
        return ""
    worst = max(slow, key=lambda each: float(each.get("over") or 0))
    more = f", and {len(slow) - 1} more" if len(slow) > 1 else ""
    over = float(worst.get("over") or 0)
    return f"rank {worst.get('rank')} on {worst.get('host')} is {over:.0%} slower than the median{more}"


def _waits(full: str) -> str:
    """`disk full, waiting: 0 B free in /scratch`. Nothing waits for a permission."""
    reason, colon, where = full.partition(": ")
    return f"{reason}, waiting{colon}{where}" if reason == DISK_FULL else full


def _own_beat(facts: RunFacts) -> Heartbeat | None:
    """The heartbeat, if it is the newest attempt's."""
    beat = facts.beat
    return beat if beat is not None and beat.attempt == facts.history.attempts[-1].number else None


def _silence(facts: RunFacts, now: dt.datetime) -> str:
    """How long the attempt has been silent for too long, or nothing."""
    if facts.unread_beat:
        return ""  # whether it beats is not ours to see
    beat = _own_beat(facts)
    silent_s = age_s(beat, now=now) if beat else (now - facts.history.attempts[-1].started).total_seconds()
    if silent_s <= (STALE_S if beat else STARTUP_S):
        return ""
    return f"no {'' if beat else 'first '}heartbeat for {format_duration(silent_s)}"


def _hang(beat: Heartbeat | None, now: dt.datetime) -> str:
    """How long a process that beats has not moved on, where it should have."""
    if beat is None or beat.phase not in ("training", "validating"):
        return ""
    still_s = (now - dt.datetime.fromisoformat(beat.progress_t)).total_seconds()
    return f"alive, but no step for {format_duration(still_s)}" if still_s > HUNG_S else ""


def _unseen_phase(facts: RunFacts) -> State:
    """What an attempt does whose heartbeat may not be read: it trains once it has resumed or saved."""
    history = facts.history
    saved, newest, last = history.saved, history.attempts[-1], history.last
    trains = (saved is not None and saved.attempt == newest.number) or (last and last.event == "resumed")
    return State.RUNNING if trains else State.PREFLIGHT


def _phase_state(beat: Heartbeat | None) -> State:
    if beat is None or beat.phase in ("starting", "preflight"):
        return State.PREFLIGHT
    saves = beat.phase in ("checkpointing", "stopping", "waiting")
    return State.CHECKPOINTING if saves else State.RUNNING


def _oddity(facts: RunFacts) -> str:
    """The heartbeat is fresh; SLURM does not know the job."""
    if facts.plan.executor != "slurm" or _job(facts) is not None or _is_outdated(facts):
        return ""
    if facts.evidence.hidden:
        return ""  # its heartbeat says all there is to know
    if facts.evidence.cluster:
        return _unseen(facts)
    unknown = f"SLURM does not know job {facts.history.job_id}"
    if _is_taken(facts):
        unknown = f"another job has id {facts.history.job_id} now"
    return NO_ANSWER if facts.evidence.slurm_down else unknown


def _job(facts: RunFacts) -> JobFact | None:
    """What SLURM says of the run's job, unless the run itself has said something since."""
    job, beat = facts.evidence.job, facts.beat
    if job is None or _is_outdated(facts):
        return None
    # A controller that lost its memory calls jobs ended that went on: a later heartbeat knows better.
    if job.ended_at is not None and beat is not None and age_s(beat, now=job.ended_at) < -STALE_S:
        return None
    return job


def _is_outdated(facts: RunFacts) -> bool:
    last, seen = facts.history.last, facts.evidence.seen
    return last is not None and seen is not None and last.t > seen


def _is_in_doubt(facts: RunFacts) -> bool:
    """Whether the absence of a job says nothing."""
    return facts.evidence.slurm_down or bool(_unseen(facts)) or _is_outdated(facts)


def _unseen(facts: RunFacts) -> str:
    """Why the SLURM that we ask cannot show the run's job, though there may be one; or nothing."""
    if facts.evidence.cluster:
        return f"on cluster {facts.evidence.cluster}"
    return HIDDEN if facts.evidence.hidden else ""


def _is_taken(facts: RunFacts) -> bool:
    """Whether another job has the id of the run's job now: SLURM has lost the run's own."""
    return facts.evidence.stranger is not None and not _is_outdated(facts)


def _taken(facts: RunFacts) -> str:
    return f"another job has id {facts.history.job_id} now; sedd requeue starts it again"


def _ended_by_slurm(job: JobFact, when: str, full: str = "", output: str = "") -> Verdict:
    if job.state is JobState.CANCELLED:
        return Verdict(State.CANCELLED, "by scancel")
    # COMPLETED without a last word of ours is no success: nothing says that the last step was reached.
    state = State.LOST if when == "no last word" else State.FAILED
    return Verdict(state, _join(full, output or f"SLURM: {cause_words(job.state)}, {when}"))


def _queue_words(job: JobFact, now: dt.datetime) -> str:
    """`Priority, starts in 2h 5m`."""
    wait = (job.starts_at - now).total_seconds() if job.starts_at else 0.0
    return _join(job.reason or "", f"starts in {format_duration(wait)}" if wait >= 1 else "")


def _silent_s(facts: RunFacts, now: dt.datetime) -> float:
    """Seconds since the last event that moved the run on, or since the folder was made."""
    last = facts.history.last
    return (now - (last.t if last else facts.plan.made)).total_seconds()


def _last_line(text: object) -> str:
    lines = [line for line in str(text or "").splitlines() if line.strip()]
    return lines[-1].strip() if lines else ""


def _join(*parts: str) -> str:
    return ", ".join(part for part in parts if part)
