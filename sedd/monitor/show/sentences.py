"""Render events as sentences."""

import dataclasses
from collections.abc import Callable, Collection

from sedd.monitor.decide.state import after_words, cause_words
from sedd.monitor.show.cells import count_cell
from sedd.rundir.attempts import Cause
from sedd.rundir.events import Event
from sedd.units import format_bytes, format_duration


def sentence(event: Event, *, unit: str = "steps") -> str:
    """What happened, in a few words: `requeued after a preemption, at step 20400`.

    `unit` is what the run's task counts: of other units than steps, an event tells only how many were done in the end.
    """
    if unit != "steps":
        if event.event in _OF_RESULTS:
            return _OF_RESULTS[event.event](event, unit)
        event = dataclasses.replace(event, fields={**event.fields, "step": None})
    return _SENTENCES[event.event](event) if event.event in _SENTENCES else event.event


def _amount(e: Event, unit: str) -> str:
    done = e.get("step")
    if not isinstance(done, int) or not done:
        return ""
    return f": {format_bytes(done) if unit == 'bytes' else f'{done:,} {unit}'}"


_OF_RESULTS: dict[str, Callable[[Event, str], str]] = {
    "completed": lambda e, unit: f"completed{_amount(e, unit)}",
    "checkpoint": lambda e, unit: (
        "wrote the results" if e.get("reason") in (None, "last") else f"kept what is done{_amount(e, unit)}"
    ),
    "resumed": lambda e, unit: f"resumed with what was kept{_amount(e, unit)}",
}
"""Of a task that does not train."""


def preflight_outcome(e: Event, *, told: Collection[tuple[object, object]] = ()) -> str:
    """`node preflight passed (clock: 4 s late)`; findings that are `told`, by check and what it saw, by name alone."""
    bad = [f for f in e.get("findings") or () if isinstance(f, dict)]
    outcome = "passed" if e.get("ok") else "failed"
    known = [(f.get("check"), f.get("saw")) for f in bad]
    named = ", ".join(str(check) if (check, saw) in told else f"{check}: {saw}" for check, saw in known)
    return f"{e.get('side', '')} preflight {outcome}".strip() + (f" ({named})" if named else "")


def _attempt(e: Event) -> str:
    ranks = int(e.get("ranks") or 1)
    left_out = e.get("left_out")
    without = f", without {', '.join(left_out)}" if isinstance(left_out, dict) and left_out else ""
    return f"attempt {e.attempt} started on {e.get('host')}{f', {ranks} ranks' if ranks > 1 else ''}{without}"


def _checkpoint(e: Event) -> str:
    size, took = e.get("bytes"), e.get("seconds")
    details = [format_bytes(size)] if size else []
    details += [f"in {took:.1f} s"] if isinstance(took, int | float) else []
    return f"checkpoint at step {e.get('step')}" + (f" ({' '.join(details)})" if details else "")


def _submitted(e: Event) -> str:
    if e.get("executor") == "foreground":
        return f"started in the foreground on {e.get('host')}"
    goes_on = f", which goes on from job {e.get('continues')}" if e.get("continues") else ""
    return f"submitted as job {e.get('job_id')}{goes_on}"


def _stop(e: Event) -> str:
    by = e.get("signal") or e.get("by")
    return "asked to stop" + (f" by {by}" if by else "") + _at_step(e)


def _at_step(e: Event) -> str:
    return f", at step {e.get('step')}" if e.get("step") is not None else ""


def _ended(word: str) -> Callable[[Event], str]:
    def describe(e: Event) -> str:
        detail = (
            f" ({e.get('detail')})" if e.get("detail") not in (None, "", cause_words(e.get("cause"))) else ""
        )
        return f"{word} {after_words(e.get('cause'))}{_at_step(e)}{detail}"

    return describe


def _failed(e: Event) -> str:
    lines = str(e.get("error") or "").strip().splitlines()
    where = f" on rank {e.get('rank')}" if e.get("rank") is not None else ""
    return f"{cause_words(e.get('cause')) or 'failed'}{where}" + (f": {lines[-1].strip()}" if lines else "")


def _requeued(e: Event) -> str:
    if e.get("in_job"):  # its step is the shared checkpoint's, and a copy on the node may be newer
        return f"starts again in the same job {after_words(e.get('cause'))}"
    return _ended("requeued")(e)


def _gave_up(e: Event) -> str:
    if e.get("cause") == Cause.INTERRUPTED:
        return f"interrupted {e.get('detail') or ''}".strip() + _at_step(e)
    return _ended("gave up")(e)


def _rung(e: Event) -> str:
    bound = e.get("validation_bound")
    shown = f"{bound:.4f}" if isinstance(bound, float) else "not finite"
    return f"came to the rung at step {e.get('step')}, validation {shown}"


_SENTENCES: dict[str, Callable[[Event], str]] = {
    "submitted": _submitted,
    "preflight": preflight_outcome,
    "attempt_started": _attempt,
    "resumed": lambda e: (
        f"resumed from step {e.get('step')}" + (", copied on the node" if e.get("tier") else "")
    ),
    "checkpoint": _checkpoint,
    "stop_requested": _stop,
    "failed": _failed,
    "requeued": _requeued,
    "ready": lambda e: (
        f"task {e.get('task')} on {e.get('host')} is ready for the next attempt in the same job"
        + (f", which task {e.get('leader')} leads" if e.get("leader") is not None else "")
    ),
    "gave_up": _gave_up,
    "completed": lambda e: f"completed at step {e.get('step')}",
    "rung": _rung,
    "promoted": lambda e: f"may go on: {e.get('detail')}",
    "paused": lambda e: f"paused at step {e.get('step')}, without a job",
    "stopped": lambda e: f"stopped by rule: {e.get('detail')}",
    "cancelled": lambda e: f"cancelled by {e.get('by')}",
    "extended": lambda e: f"extended from {e.get('earlier_steps')} to {e.get('steps')} steps",
    "reshaped": lambda e: f"reshaped from {e.get('earlier')} to {e.get('shape')}",
}


def outlook(seconds: float | None) -> str:
    """`3h 5m left`, or nothing."""
    return "" if seconds is None else f"{format_duration(seconds)} left"


def rate(residues_per_s: float | None) -> str:
    """`261k residues/s`, or nothing."""
    return "" if residues_per_s is None else f"{count_cell(residues_per_s)} residues/s"
