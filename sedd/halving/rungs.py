"""What a point does at a rung: note its metric, and decide, alone in the sweep, what follows for it and its fellows."""

import contextlib
import datetime as dt
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass

from sedd.errors import RunError
from sedd.halving.fellows import Fellow, Group, Halving, group_folder, passed_rungs, read_group, read_halving
from sedd.halving.rule import Decision, Verdict
from sedd.rundir import lock
from sedd.rundir.attempts import is_paused
from sedd.rundir.best import BOUND
from sedd.rundir.events import append_event, read_events
from sedd.rundir.fence import newest_attempt
from sedd.rundir.layout import RunDir

PATIENCE_S = 60.0
"""For fellows that decide: each reads the sweep's events, and asks no scheduler meanwhile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """The rungs of a run, as its training meets them."""

    run: RunDir
    halving: Halving
    attempt: int

    @property
    def steps(self) -> tuple[int, ...]:
        return self.halving.rungs

    def lets_pass(self, step: int) -> bool:
        """Whether training goes on from this rung; its validation and its checkpoint are on disk.

        Raises:
            RunError: its validation is not there, or a folder of the sweep cannot be read or written.
        """
        if step in passed_rungs(read_events(self.run.events)):
            return True
        try:
            with deciding(self.run, self.halving):
                _note_rung(self.run, step, attempt=self.attempt)
                group = read_group(self.run, self.halving)
                decision = group.decisions().get(self.halving.index)
                if decision is None or decision.verdict is not Verdict.GO_ON:
                    return False
                _record(group.fellows[self.halving.index], decision, self.halving)
                return True
        except lock.BusyError as e:
            print(f"{e.message}; this run waits for the decision without its node", flush=True)
            return False


def open_gate(run: RunDir, *, attempt: int) -> Gate | None:
    """The rungs of a run; None where it belongs to no halving sweep. Raises: RunError."""
    halving = read_halving(run)
    return Gate(run=run, halving=halving, attempt=attempt) if halving is not None else None


def decide_all(run: RunDir, halving: Halving) -> Group:
    """Record what is decided for those that wait at a rung; returns the sweep as it is then.

    Repeated, it records nothing twice: whoever was killed on the way is followed by somebody who does the rest.

    Raises:
        RunError: a folder cannot be read or written, or somebody holds the lock for too long.
    """
    with deciding(run, halving):
        group = read_group(run, halving)
        for index, decision in group.decisions().items():
            # Others still train, or are just arriving: they ask for themselves.
            if is_paused(group.fellows[index].events) and decision.verdict is not Verdict.WAIT:
                _record(group.fellows[index], decision, halving)
        return read_group(run, halving)


@contextlib.contextmanager
def deciding(run: RunDir, halving: Halving) -> Iterator[None]:
    """Keep the sweep's other points from deciding meanwhile. Raises: RunError."""
    folder = group_folder(run, halving)
    with lock.alone(folder / ".halving.lock", patience_s=PATIENCE_S):
        yield


def _record(fellow: Fellow, decision: Decision, halving: Halving) -> None:
    place = f"{_ordinal(decision.rank)} of {decision.arrived} at step {halving.rungs[decision.rung]}"
    goes_on = decision.verdict is Verdict.GO_ON
    missing = decision.points - decision.arrived
    rest = f"; {missing} had not arrived" if missing else ""
    append_event(
        fellow.run.events,
        "promoted" if goes_on else "stopped",
        attempt=newest_attempt(fellow.events),
        now=dt.datetime.now(dt.UTC),
        step=halving.rungs[decision.rung],
        detail=f"{place}, {decision.places} of {decision.points} go on{rest}",
    )


def _note_rung(run: RunDir, step: int, *, attempt: int) -> None:
    """Record the metric of a rung, once. Raises: RunError."""
    if any(e.event == "rung" and e.get("step") == step for e in read_events(run.events)):
        return
    bound = _bound_at(run, step)
    known = bound if math.isfinite(bound) else None
    append_event(
        run.events, "rung", attempt=attempt, now=dt.datetime.now(dt.UTC), step=step, validation_bound=known
    )


def _bound_at(run: RunDir, step: int) -> float:
    """The validation's bound at exactly this step, nats per residue."""
    try:
        lines = run.metrics.read_bytes().split(b"\n")
    except OSError as e:
        raise RunError(f"cannot read {run.metrics}: {e.strerror}") from e
    for line in reversed(lines):
        with contextlib.suppress(ValueError, AttributeError):  # cut short by a kill
            row = json.loads(line)
            if row.get("step") == step and BOUND in row:
                return float(row[BOUND])
    raise RunError(f"{run.metrics} has no validation at step {step}: the rung cannot be decided")


def _ordinal(number: int) -> str:
    last = number % 10 if number % 100 not in (11, 12, 13) else 0
    ending = ("th", "st", "n" + "d", "rd")[last] if last < 4 else "th"
    return f"{number}{ending}"
