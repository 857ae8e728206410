"""Decide on all runs at one moment: facts in, one frozen `Snapshot` out; pure."""

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sedd.monitor.decide.estimate import (
    at_risk_s,
    eta_s,
    ettr,
    later,
    newest_checkpoint,
    newest_copy,
    step_of,
)
from sedd.monitor.decide.state import State
from sedd.monitor.decide.verdict import decide
from sedd.monitor.read.facts import Facts, QueueFacts, RunFacts
from sedd.monitor.read.task_result import TaskResult
from sedd.rundir.attempts import Cause
from sedd.rundir.layout import RunDir

_KEEP_S = 30.0
_TURNS = 32
_MANY = 1000
"""From this many runs on a view is kept `_KEEP_S`; of fewer all are up to date."""
_LIVE = frozenset({State.PREFLIGHT, State.RUNNING, State.CHECKPOINTING, State.STALLED})


@dataclass(frozen=True, slots=True, kw_only=True)
class RunView:
    """What there is to say about one run.

    Attributes:
        why: one phrase where the state alone does not say it: the queue's reason, an error's last line.
        sweep: the sweep's id; `point`: the dotted keys in which this run differs from its siblings.
        unit: what `step` and `steps` count: steps, or bytes of input where a token store is built.
        validation_bound: nats per residue, of the last validation.
        eta_s: to the run's last step, expected interruptions included; None for a run that stands still.
        attempts: how many were started; `causes`: what ended those that ended before completion.
        at_risk_steps, at_risk_s: what the loss of its node, or of its job, now would lose.
        restart_steps, restart_s: what a kill of the training alone would lose: less, with copies on the node.
        ettr: effective training time ratio.
        ended: when it reached its final state, if its own events say so.
        local_step, local_t: of the newest copy of the state on the node.
        ranks: each rank's own seconds of a step, as in the heartbeat; `slow`: those that keep the others waiting.
        unreadable: files that this user may not read.
        damaged: files with a damaged line, each with its number.
        result: what a completed run of another task than training came to.
    """

    run: RunDir
    state: State
    why: str
    executor: str
    job_id: str
    nodes: str
    made: dt.datetime
    submitted: dt.datetime | None
    ended: dt.datetime | None
    sweep: str | None
    point: Mapping[str, Any]
    step: int
    steps: int | None
    unit: str
    loss: float | None
    validation_bound: float | None
    residues_per_s: float | None
    eta_s: float | None
    gpus: int | None
    gpu: str | None
    gpu_memory_bytes: int | None
    gpu_utilization: float | None
    attempts: int
    causes: Mapping[Cause, int]
    checkpoint_step: int | None
    checkpoint_t: dt.datetime | None
    at_risk_steps: int | None
    at_risk_s: float | None
    restart_steps: int | None
    restart_s: float | None
    ettr: float | None
    error: str | None
    heartbeat_t: dt.datetime | None
    local_step: int | None
    local_t: dt.datetime | None
    ranks: tuple[Mapping[str, Any], ...]
    slow: tuple[Mapping[str, Any], ...]
    unreadable: tuple[str, ...]
    damaged: tuple[str, ...]
    result: TaskResult | None = None

    @property
    def name(self) -> str:
        return self.run.name

    @property
    def id(self) -> str:
        return self.run.id

    @property
    def is_live(self) -> bool:
        """Whether an attempt has a node now."""
        return self.state in _LIVE

    @property
    def has_later_copy(self) -> bool:
        """Whether a restart in the same job continues from a copy on the node, later than every checkpoint."""
        return self.local_step is not None and self.local_step > (self.checkpoint_step or 0)

    @property
    def validation_perplexity(self) -> float | None:
        """exp(bound): the effective number of residues the model is in doubt between."""
        if self.validation_bound is None:
            return None
        try:
            return math.exp(self.validation_bound)
        except OverflowError:
            return math.inf

    @property
    def perplexity(self) -> float | None:
        """Of an evaluation's bound; of a training, of its last validation."""
        return self.result.perplexity if self.result else self.validation_perplexity


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Every run at the moment `taken`, oldest first."""

    taken: dt.datetime
    runs: tuple[RunView, ...]
    queue: QueueFacts


class Views:
    """Makes snapshots. A run whose facts have not changed keeps its view: for good when it is final, else a while."""

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}

    def snapshot(self, facts: Facts) -> Snapshot:
        keep_s = _KEEP_S * min(1.0, len(facts.runs) / _MANY)
        seen = [self._view(number, run, facts.taken, keep_s) for number, run in enumerate(facts.runs)]
        self._known = {id(known.facts): known for known in seen}
        return Snapshot(taken=facts.taken, runs=tuple(known.view for known in seen), queue=facts.queue)

    def _view(self, number: int, facts: RunFacts, now: dt.datetime, keep_s: float) -> "_Known":
        known = self._known.get(id(facts))
        if known is not None and known.facts is facts:
            # Only time has passed. Runs are looked at again in turns, so that no refresh does all of them.
            age_s = (now - known.taken).total_seconds() + number % _TURNS * keep_s / _TURNS
            if known.view.state.is_final or age_s < keep_s:
                return known
        return _Known(facts=facts, taken=now, view=view_run(facts, now=now))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    facts: RunFacts
    taken: dt.datetime
    view: RunView


def take_snapshot(facts: Facts) -> Snapshot:
    """The facts, decided."""
    return Views().snapshot(facts)


def view_run(facts: RunFacts, *, now: dt.datetime) -> RunView:
    """One run, decided."""
    verdict = decide(facts, now=now)
    history, plan, beat = facts.history, facts.plan, facts.beat
    live = verdict.state in _LIVE
    step, saved = step_of(facts), newest_checkpoint(facts)
    trains = live and verdict.state is not State.PREFLIGHT
    copy = newest_copy(facts) if trains else None
    resumable = later(copy, saved)
    final = verdict.state.is_final
    has_end = not final and verdict.state is not State.STALLED
    return RunView(
        run=facts.run,
        state=verdict.state,
        why=verdict.why,
        executor=plan.executor,
        job_id=history.job_id,
        nodes=_nodes(facts, live),
        made=plan.made,
        submitted=history.submitted,
        ended=history.last.t if final and history.last else None,
        sweep=plan.sweep,
        point=plan.point,
        step=step,
        steps=plan.steps if plan.steps is not None else (beat.steps or None if beat else None),
        unit=beat.unit if beat else "steps",
        loss=beat.loss if beat else None,
        validation_bound=beat.validation_bound if beat else None,
        residues_per_s=beat.residues_per_s if beat else None,
        eta_s=eta_s(facts, now=now, is_live=trains) if has_end else None,
        gpus=plan.gpus if history.gpus is None else history.gpus,
        gpu=(beat.gpu if beat else None) or plan.gpu_type,
        gpu_memory_bytes=beat.gpu_memory_bytes if beat else None,
        gpu_utilization=beat.gpu_utilization if beat and trains else None,
        attempts=len(history.attempts),
        causes=history.causes,
        checkpoint_step=saved.step if saved else None,
        checkpoint_t=saved.t if saved else None,
        at_risk_steps=max(0, step - (saved.step if saved else 0)) if trains else None,
        at_risk_s=at_risk_s(facts, saved, now=now, is_live=trains),
        restart_steps=max(0, step - (resumable.step if resumable else 0)) if trains else None,
        restart_s=at_risk_s(facts, resumable, now=now, is_live=trains),
        ettr=ettr(facts, now=now, is_live=trains),
        error=history.error if verdict.state in (State.FAILED, State.GAVE_UP) else None,
        heartbeat_t=dt.datetime.fromisoformat(beat.t) if beat else None,
        local_step=copy.step if copy else None,
        local_t=copy.t if copy else None,
        ranks=_rows(beat.ranks) if beat and trains else (),
        slow=_rows(beat.slow) if beat and trains else (),
        unreadable=facts.unreadable,
        damaged=facts.damage,
        result=facts.result,
    )


def _rows(rows: object) -> tuple[Mapping[str, Any], ...]:
    return tuple(row for row in rows if isinstance(row, Mapping)) if isinstance(rows, list | tuple) else ()


def _nodes(facts: RunFacts, live: bool) -> str:
    """Where it runs now: SLURM's node list, else the host of the newest attempt, else of the heartbeat."""
    if not live:
        return ""
    job, attempts, beat = facts.evidence.job, facts.history.attempts, facts.beat
    return (job.nodes if job else None) or (attempts[-1].host if attempts else beat.host if beat else "")
