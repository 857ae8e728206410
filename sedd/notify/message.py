"""What has happened to a run that somebody wants to be told: pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from sedd.rundir.attempts import is_cancelled
from sedd.rundir.events import STAYS, Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One notification.

    Attributes:
        occasion: as in `notify.on`.
        key: names it in the run's folder, so that it is told once.
    """

    occasion: str
    key: str
    title: str
    text: str


def end_message(name: str, identity: str, events: Sequence[Event], *, used: str = "") -> Message | None:
    """How a run ended; None while it has not, or when its user cancelled it."""
    last = next((e for e in reversed(events) if e.event not in STAYS), None)
    if last is None or last.event not in ("completed", "gave_up") or is_cancelled(events):
        return None
    if last.get("cause") == "interrupted":
        return None  # its user stopped it
    if last.event == "completed":
        lines = [f"{name} {identity} completed."]
    else:
        of_attempt = (e for e in reversed(events) if e.attempt == last.attempt)  # others' were got over
        failure = next((e.get("error") for e in of_attempt if e.event == "failed"), None)
        why = str(failure or last.get("detail") or last.get("cause") or "")
        lines = [f"{name} {identity} gave up: {why}", f"sedd logs {identity}; sedd requeue {identity}"]
    lines += [f"Used {used}."] if used else []
    return Message(
        occasion=last.event,
        key=f"{last.event}-{last.attempt}",
        title=f"{name} {last.event.replace('_', ' ')}",
        text="\n".join([*lines, f"sedd status {identity}", ""]),
    )


def stall_message(name: str, identity: str, attempt: int, why: str) -> Message:
    """A run that has a job and does nothing."""
    return Message(
        occasion="stalled",
        key=f"stalled-{attempt}",
        title=f"{name} stalled",
        text=f"{name} {identity} stalled: {why}\nsedd logs {identity}; sedd requeue {identity}",
    )


def loss_message(name: str, identity: str, attempt: int, why: str) -> Message:
    """A run whose job is gone without a last word."""
    return Message(
        occasion="gave_up",
        key=f"gave_up-{attempt}",
        title=f"{name} was lost",
        text=f"{name} {identity} was lost: {why}\nsedd logs {identity}; sedd requeue {identity}",
    )


def plan_message(name: str, text: str, *, attempts: int) -> Message:
    """A plan of which nothing is left to do after so many attempts of all its runs."""
    return Message(occasion="plan_done", key=f"plan_done-{attempts}", title=f"plan {name} is done", text=text)
