"""The points of a halving sweep, read from their run folders."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from sedd.errors import RunError
from sedd.halving.rule import Decision, Standing, judge
from sedd.rundir.attempts import is_cancelled, is_stopped
from sedd.rundir.events import STAYS, Event, read_events
from sedd.rundir.layout import RunDir, read_manifest
from sedd.rundir.owner import is_own

NO_RUN = ("sweep-", "plan-")
"""Beginnings of folders beside runs that are none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Halving:
    """What a run's manifest says of its halving sweep.

    Attributes:
        group: names the sweep; its folder, beside the runs, holds the lock.
        rungs: steps at which something is decided.
        index: the point's number among the `points`.
    """

    group: str
    rungs: tuple[int, ...]
    keep: Fraction
    points: int
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Fellow:
    """A point of the sweep that has a run folder, and its events."""

    run: RunDir
    index: int
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """A halving sweep at one moment."""

    halving: Halving
    fellows: Mapping[int, Fellow]
    """By number; points whose folders are not made yet, or were removed, are missing."""

    def decisions(self) -> dict[int, Decision]:
        """What follows for each point at a rung that has no decision yet."""
        rungs = self.halving.rungs
        standings = [
            standing_of(self.fellows[n].events, rungs) if n in self.fellows else Standing()
            for n in range(self.halving.points)
        ]
        return judge(standings, rungs=len(rungs), share=self.halving.keep)


def read_halving(run: RunDir) -> Halving | None:
    """The halving sweep that a run belongs to; None for other runs. Raises: RunError."""
    return parse_halving(read_manifest(run).get("halving"))


def parse_halving(found: Mapping[str, Any] | None) -> Halving | None:
    """As the manifest has it."""
    if not found:
        return None
    return Halving(
        group=str(found["group"]),
        rungs=tuple(found["rungs"]),
        keep=Fraction(str(found["keep"])),
        points=int(found["points"]),
        index=int(found["index"]),
    )


def group_folder(run: RunDir, halving: Halving) -> Path:
    """The sweep's own folder."""
    return run.path.parent / halving.group


def read_group(run: RunDir, halving: Halving) -> Group:
    """All points of the run's sweep that have a folder. Raises: RunError where one cannot be read."""
    fellows: dict[int, Fellow] = {}
    for path in sorted(run.path.parent.iterdir()):
        if path.name.startswith((".", *NO_RUN)):
            continue
        fellow = RunDir(path)
        own = _halving_in(fellow)
        if own is not None and own.group == halving.group and own.index not in fellows:
            fellows[own.index] = Fellow(run=fellow, index=own.index, events=read_events(fellow.events))
    return Group(halving=halving, fellows=fellows)


def standing_of(events: Sequence[Event], rungs: Sequence[int]) -> Standing:
    """What a point has come to, by its events."""
    values: dict[int, float] = {}
    for event in events:
        if event.event == "rung" and event.get("step") in rungs:
            value = event.get("validation_bound")
            values.setdefault(rungs.index(event.get("step")), math.inf if value is None else float(value))
    last = next((e.event for e in reversed(events) if e.event not in STAYS), "")
    return Standing(
        values=values,
        passed=len(passed_rungs(events) & set(rungs)),
        is_stopped=is_stopped(events),
        has_ended=last == "gave_up" or is_cancelled(events),
    )


def passed_rungs(events: Sequence[Event]) -> set[int]:
    """Steps of the rungs that the run was let pass."""
    return {int(e.get("step")) for e in events if e.event == "promoted"}


def reached_rung(events: Sequence[Event]) -> int | None:
    """Step of the newest rung that the run has come to."""
    return max((int(e.get("step")) for e in events if e.event == "rung"), default=None)


def _halving_in(run: RunDir) -> Halving | None:
    try:
        content = run.manifest.read_bytes()
        return parse_halving(json.loads(content).get("halving")) if b'"halving"' in content else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as e:
        if isinstance(e, PermissionError) and not is_own(run.path):
            return None  # of another user, who lets nobody look into it
        raise RunError(f"cannot read {run.manifest}: {e}") from e
