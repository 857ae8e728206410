"""What became of each run: is it whole, is it equal to the bit, what did the faults cost?"""

import dataclasses
import datetime as dt
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from _chaos_faults import GRACEFUL
from _chaos_runs import Watched

from sedd.rundir.attempts import Attempt, Cause
from sedd.rundir.events import Event
from sedd.rundir.layout import RunDir, list_checkpoints
from sedd.training.checkpoint_file import read_checkpoint

GRACEFUL_CAUSES = (Cause.PREEMPTED, Cause.TIME_LIMIT, Cause.MOVED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Injury:
    """A fault that happened."""

    fault: str
    t: dt.datetime
    victims: tuple[str, ...]
    """Paths of the runs that it could touch."""
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Two attempts of a run were seen training at once."""

    run: str
    attempts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One run at its end."""

    run: str
    layout: str
    partition: str
    completed: bool
    differences: tuple[str, ...]
    """From the uninterrupted run: empty means equal to the bit."""
    attempts: int
    causes: dict[str, int]
    injuries: int
    steps_repeated: int
    steps_lost_gracefully: int
    """Steps repeated after an attempt that nothing but graceful faults had touched."""
    overlaps: int
    in_system_s: float
    ettr: float
    """Effective training time ratio: time of the steps that counted, over the time from the first start to the end."""

    @property
    def is_good(self) -> bool:
        return self.completed and not (self.differences or self.steps_lost_gracefully or self.overlaps)

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self) | {"good": self.is_good}


def judge(
    watched: Watched, reference: Watched, injuries: Sequence[Injury], overlaps: Sequence[Overlap]
) -> Verdict:
    """The verdict on a run that has ended, or that has been given up as lost."""
    path = str(watched.run.path)
    own = [injury for injury in injuries if path in injury.victims]
    said, attempts = watched.said(), watched.attempts
    return Verdict(
        run=path,
        layout=watched.layout,
        partition=watched.partition,
        completed=watched.is_completed,
        differences=tuple(compare(reference.run, watched.run)),
        attempts=len(attempts),
        causes=dict(Counter(attempt.cause.value for attempt in attempts if attempt.cause)),
        injuries=len(own),
        steps_repeated=sum(int(e.get("repeats", 0)) for e in said if e.event == "resumed"),
        steps_lost_gracefully=sum(lost_gracefully(said, attempts, own)),
        overlaps=sum(overlap.run == path for overlap in overlaps),
        in_system_s=round(_in_system_s(said), 1),
        ettr=round(effective_time_ratio(said), 3),
    )


def compare(reference: RunDir, run: RunDir) -> Iterator[str]:
    """Where the end of a run differs from the reference's: weights, EMA, optimizer, loss window, metrics rows."""
    if run.metrics.exists() and run.metrics.read_bytes() != reference.metrics.read_bytes():
        yield "metrics.jsonl"
    ends = [list_checkpoints(folder.checkpoints)[:1] for folder in (reference, run)]
    if not all(ends):
        yield "no checkpoint"
        return
    expected, seen = (read_checkpoint(end[0]) for end in ends)
    for name in ("run", "spec"):  # the folder's name; the spec is the same by construction
        expected.pop(name), seen.pop(name)
    yield from unequal(expected, seen, "checkpoint")


def unequal(expected: Any, seen: Any, where: str) -> Iterator[str]:
    """The places at which two nests of tensors differ in any bit."""
    if isinstance(expected, torch.Tensor):
        same = (
            isinstance(seen, torch.Tensor) and expected.dtype == seen.dtype and expected.shape == seen.shape
        )
        if not (same and _bits(expected) == _bits(seen)):
            yield where
    elif isinstance(expected, dict) and isinstance(seen, dict) and expected.keys() == seen.keys():
        for key in expected:
            yield from unequal(expected[key], seen[key], f"{where}.{key}")
    elif isinstance(expected, list | tuple) and isinstance(seen, list | tuple) and len(expected) == len(seen):
        for number, (one, other) in enumerate(zip(expected, seen, strict=True)):
            yield from unequal(one, other, f"{where}.{number}")
    elif expected != seen:
        yield where


def _bits(tensor: torch.Tensor) -> bytes:
    """Equal bits, so that a NaN is itself and -0 is not 0."""
    return tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()


def lost_gracefully(
    said: Sequence[Event], attempts: Sequence[Attempt], injuries: Sequence[Injury]
) -> Iterator[int]:
    """Steps that were repeated though nothing had happened since they were taken but what announces itself."""
    for resumed in (e for e in said if e.event == "resumed" and e.get("repeats")):
        since = _since_trained([a for a in attempts if a.number < resumed.attempt], said)
        hard = (i for i in injuries if i.fault not in GRACEFUL and since[0].started <= i.t <= resumed.t)
        if all(attempt.cause in GRACEFUL_CAUSES for attempt in since) and not any(hard):
            yield int(resumed.get("repeats"))


def _since_trained(before: Sequence[Attempt], said: Sequence[Event]) -> Sequence[Attempt]:
    """The last attempt that took a step, and those after it, which ended before their first."""
    trained = {e.attempt for e in said if e.event in ("resumed", "checkpoint")}
    first = max((n for n, attempt in enumerate(before) if attempt.number in trained), default=0)
    return before[first:]


def effective_time_ratio(said: Sequence[Event]) -> float:
    """Time of the steps that counted, over the time from the first attempt's start to the end; 0.0 without an end.

    Steps are timed between two checkpoints of an attempt, or from its `resumed` to its first. Those that a later
    attempt repeated did not count. So the pace of the machine, which other processes slow down, cancels out.
    """
    started = next((e.t for e in said if e.event == "attempt_started"), None)
    completed = next((e.t for e in said if e.event == "completed"), None)
    if started is None or completed is None:
        return 0.0
    counted: list[tuple[int, int, float]] = []
    """Attempt, first step, seconds."""
    before: dict[int, tuple[int, dt.datetime]] = {}
    for event in (e for e in said if e.event in ("resumed", "checkpoint")):
        step = int(event.get("step"))
        since = before.get(event.attempt)
        if since is not None and step > since[0]:
            counted = [c for c in counted if c[0] == event.attempt or c[1] < since[0]]
            counted.append((event.attempt, since[0], (event.t - since[1]).total_seconds()))
        before[event.attempt] = (step, event.t)
    return sum(seconds for _, _, seconds in counted) / (completed - started).total_seconds()


def _in_system_s(said: Sequence[Event]) -> float:
    submitted = next((e.t for e in said if e.event == "submitted"), None)
    completed = next((e.t for e in said if e.event == "completed"), None)
    return (completed - submitted).total_seconds() if submitted and completed else 0.0
