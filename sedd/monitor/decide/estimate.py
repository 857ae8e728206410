"""Time left, work at risk and effective training time ratio of a run: pure."""

import datetime as dt
import math

from sedd.monitor.read.facts import RunFacts
from sedd.monitor.read.history import Saved, queued_s
from sedd.rundir.heartbeat import Heartbeat

_TRUSTED_S = 600.0
"""Below this much productive time a ratio says nothing."""


def ettr(facts: RunFacts, *, now: dt.datetime, is_live: bool) -> float | None:
    """Effective training time ratio (Kokolis et al. 2024, arXiv 2410.21680): productive time / all time.

    All time runs from the first submission, queue and restarts included, but not what lay between a run's end, or the
    last event of a killed one, and its extension or revival. Productive is the training whose result was kept or, in
    a live attempt, may still be. None before an attempt has trained.
    """
    history = facts.history
    if history.submitted is None or not history.attempts:
        return None
    total = ((now if is_live else _last_sign(facts)) - history.submitted).total_seconds() - history.rested_s
    productive = productive_s(facts, now=now, is_live=is_live)
    return min(1.0, productive / total) if total > 0 and productive > 0 else None


def _last_sign(facts: RunFacts) -> dt.datetime:
    """When the run was last heard of: a killed one has no last word."""
    history, beat = facts.history, facts.beat
    signs = [history.last.t] if history.last else []
    if history.open_attempt is not None:
        signs += [history.saved.t] if history.saved else []
        signs += [dt.datetime.fromisoformat(beat.t)] if beat else []
    return max(signs, default=facts.plan.made)


def productive_s(facts: RunFacts, *, now: dt.datetime, is_live: bool) -> float:
    """Seconds of training whose result was kept, and those of a live attempt since its newest checkpoint."""
    history = facts.history
    if not is_live or facts.beat is None or not history.attempts:
        return history.productive_s
    saved, newest = history.saved, history.attempts[-1]
    since = saved.t if saved is not None and saved.attempt == newest.number else history.training_since
    return history.productive_s + _trained_s(facts.beat, since, now) if since else history.productive_s


def eta_s(facts: RunFacts, *, now: dt.datetime, is_live: bool) -> float | None:
    """Seconds to the run's last step, requeues included: the larger of two estimates.

    By experience: a run that spent half its time since its first start in queues, restarts and lost steps
    needs twice the time that training alone would take. By the time limit: training alone, and the usual
    wait in the queue for each limit that still comes.
    """
    beat, history = facts.beat, facts.history
    if beat is None or beat.eta_s is None:
        return None
    # Between two logged steps the beat's estimate stays as it was.
    left = max(0.0, beat.eta_s - (_seconds_since(beat.progress_t, now) if is_live else 0.0))
    by_limit = left + _limits_ahead(facts, left, now=now, is_live=is_live) * _usual_wait_s(facts)
    productive = productive_s(facts, now=now, is_live=is_live)
    if len(history.attempts) < 2 or productive < _TRUSTED_S or history.first_start is None:
        return by_limit
    since_start = (now - history.first_start).total_seconds() - history.rested_s
    return max(by_limit, left * since_start / productive)


def _limits_ahead(facts: RunFacts, left_s: float, *, now: dt.datetime, is_live: bool) -> int:
    """How often the time limit will end an attempt before `left_s` of training are done."""
    job, attempts = facts.evidence.job, facts.history.attempts
    if job is None or not job.time_limit_s or not attempts:
        return 0
    used_s = (now - attempts[-1].started).total_seconds() if is_live else 0.0
    here_s = max(0.0, job.time_limit_s - used_s)
    return max(0, math.ceil((left_s - here_s) / job.time_limit_s))


def _usual_wait_s(facts: RunFacts) -> float:
    """Mean of what the attempts so far have waited before they started."""
    waits = [w for w in queued_s(facts.history) if w is not None]
    return max(0.0, sum(waits) / len(waits)) if waits else 0.0


def newest_checkpoint(facts: RunFacts) -> Saved | None:
    """The newest whole checkpoint, by events or by heartbeat, whichever knows of a later one."""
    beat, saved = facts.beat, facts.history.saved
    if beat is None or beat.checkpoint_step is None or beat.checkpoint_t is None:
        return saved
    reported = Saved(
        t=dt.datetime.fromisoformat(beat.checkpoint_t), step=beat.checkpoint_step, attempt=beat.attempt
    )
    return reported if saved is None or reported.t > saved.t else saved


def newest_copy(facts: RunFacts) -> Saved | None:
    """The newest copy of the state on the node of the newest attempt, by its heartbeat, or as it resumed from it.

    A restart in the same job continues from it, unless a checkpoint is as new.
    """
    beat, attempts, copy = facts.beat, facts.history.attempts, facts.history.copied
    is_newest = beat is not None and (not attempts or beat.attempt == attempts[-1].number)
    if is_newest and beat is not None and beat.local_step is not None and beat.local_t is not None:
        copy = Saved(t=dt.datetime.fromisoformat(beat.local_t), step=beat.local_step, attempt=beat.attempt)
    return copy


def later(copy: Saved | None, saved: Saved | None) -> Saved | None:
    """What a restart in the same job continues from: the copy on the node, or the checkpoint if that is as new."""
    return copy if _step(copy) > _step(saved) else saved


def at_risk_s(facts: RunFacts, saved: Saved | None, *, now: dt.datetime, is_live: bool) -> float | None:
    """Seconds of training since `saved`, a checkpoint or a copy on the node; None when the run is not training."""
    history = facts.history
    if not is_live or facts.beat is None or not history.attempts:
        return None
    start = history.training_since or history.attempts[-1].started
    since = max(saved.t, start) if saved is not None else start
    # What an earlier attempt trained and no checkpoint holds is in the copy from which this attempt resumed.
    before_s = history.in_copy_s if saved is None or saved.step < _step(history.copied) else 0.0
    return before_s + _trained_s(facts.beat, since, now)


def _step(saved: Saved | None) -> int:
    return saved.step if saved is not None else 0


def step_of(facts: RunFacts) -> int:
    """The newest step known: of the heartbeat, or of the newest checkpoint where that is later."""
    beat: Heartbeat | None = facts.beat
    attempts, saved = facts.history.attempts, facts.history.saved
    is_newest = not attempts or (beat is not None and beat.attempt == attempts[-1].number)
    # An attempt that is still starting has not said yet where it resumes.
    if beat is not None and is_newest and (beat.step or beat.phase not in ("starting", "preflight")):
        return max(beat.step, attempts[-1].last_step if attempts else 0)
    return max(saved.step if saved else 0, attempts[-1].first_step if attempts else 0)


def _trained_s(beat: Heartbeat, since: dt.datetime, now: dt.datetime) -> float:
    """Seconds from `since` to when the training loop last moved on: a run that hangs trains nothing."""
    return max(0.0, (min(now, dt.datetime.fromisoformat(beat.progress_t)) - since).total_seconds())


def _seconds_since(text: str, now: dt.datetime) -> float:
    return max(0.0, (now - dt.datetime.fromisoformat(text)).total_seconds())
