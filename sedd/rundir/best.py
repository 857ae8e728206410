"""The best of several trainings: that with the lowest validation bound, by what the runs themselves have written."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from sedd.errors import RunError, UsageError
from sedd.rundir.attempts import is_cancelled, is_completed, is_stopped
from sedd.rundir.events import read_events
from sedd.rundir.find import find_run, find_runs
from sedd.rundir.layout import RunDir, list_checkpoints, read_manifest
from sedd.rundir.plan_record import PlanRecord, find_plan
from sedd.rundir.shared_folder import make_shared
from sedd.rundir.validation_rows import read_validation_rows
from sedd.yaml_text import assignments

BOUND = "validation_bound"
LISTED = 4
"""So many runs are named in a hint, and no more."""


class UndecidedError(UsageError):
    """Which of several runs is the best is not known.

    Attributes:
        is_early: some of them have not ended, so that it may be known later.
    """

    def __init__(self, message: str, *, hint: str, is_early: bool) -> None:
        super().__init__(message, hint=hint)
        self.is_early = is_early


def last_bound(run: RunDir) -> float | None:
    """The likelihood bound of the run's last validation, nats per residue; None before the first."""
    found = None
    try:
        lines = run.metrics.read_bytes().split(b"\n")
    except OSError:
        return None
    for line in lines:
        try:
            value = json.loads(line).get(BOUND) if line else None
        except (ValueError, AttributeError):
            continue  # cut short by a kill
        found = float(value) if value is not None else found
    return found


def best_of(runs: Sequence[RunDir]) -> RunDir:
    """The run with the lowest bound; of equals the first. What a halving sweep has stopped is none of them.

    Raises:
        RunError: none was validated, or none to a finite bound; or they were validated on different proteins.
    """
    runs = [run for run in runs if not is_stopped(read_events(run.events))] or runs
    bounds = [(bound, number) for number, run in enumerate(runs) if (bound := _finite_bound(run)) is not None]
    if not bounds:
        names = _listed(runs)
        raise RunError(
            f"which is the best run is not known: none of {names} was validated to a finite bound",
            hint="training.validation.every_steps must be reached before the last step",
        )
    if (sets := _count_sets([runs[number] for _, number in bounds])) > 1:
        raise RunError(
            f"which is the best run is not known: {_listed(runs)} were validated on {sets} different sets of proteins",
            hint="sedd evaluate compares them on one file; name the best of them in the spec",
        )
    return runs[min(bounds)[1]]


def find_trained_run(text: str, root: Path, *, notify: Callable[[str], None] = lambda text: None) -> RunDir:
    """The run whose network a text names; of a sweep the best that has a checkpoint, which `notify` hears.

    Of runs without any checkpoint the newest.

    Raises:
        UsageError: nothing answers to `text`, or a plan.
        UndecidedError: several runs do, and which is the best is not known.
        CheckpointError: a folder of checkpoints cannot be read.
    """
    if plan := find_plan(text, root):
        raise _is_plan(text, plan)
    try:
        runs = find_runs(text, root)
    except RunError:
        # A damaged manifest hides whether the run is one of a sweep; its checkpoints may still be whole.
        runs = [find_run(text, root)]
    saved = [run for run in runs if list_checkpoints(run.checkpoints, unsealed=True)]
    if len(runs) == 1 or not saved:
        return runs[-1]
    what = f"{text} is a sweep of {len(runs)} runs"
    is_early = not all(map(is_over, runs))
    bounds = {run: bound for run in saved if (bound := _finite_bound(run)) is not None}
    if not bounds or (sets := _count_sets(list(bounds))) > 1:
        why = f"their validation sets differ ({sets})" if bounds else "none was validated to a finite bound"
        raise UndecidedError(
            f"{what}, and which is the best is not known: {why}",
            hint=f"name one: {_listed(saved)}",
            is_early=is_early,
        )
    best = best_of(list(bounds))
    of_whom = (
        " of those not stopped by rule" if any(is_stopped(read_events(r.events)) for r in bounds) else ""
    )
    chosen = f"this is the one with the lowest validation bound{of_whom}{' so far' if is_early else ''}"
    others = [run for run in saved if run != best]
    ids = f"; others by their ids: {_listed(others)}" if others else ""
    notify(f"{what}; {chosen}, {_label(best)} ({_facts(best, bounds[best])}){ids}")
    return best


def _facts(run: RunDir, bound: float) -> str:
    return ", ".join(filter(None, (_point(run), f"{bound:.4f} nats per residue")))


def link_best(link: Path, runs: Sequence[RunDir]) -> RunDir:
    """Make `link` the best of the runs, unless it is there: whoever comes first decides, and all decide alike.

    Raises:
        RunError: as `best_of`, or it cannot be written.
    """
    if link.is_symlink():
        return RunDir(link.resolve())
    best = best_of(runs)
    try:
        make_shared(link.parent)
        link.symlink_to(best.path, target_is_directory=True)
    except FileExistsError:  # somebody else came first, and may have decided otherwise
        return RunDir(link.resolve())
    except OSError as e:
        raise RunError(f"cannot write {link}: {e.strerror or e}") from e
    return best


def _is_plan(text: str, plan: PlanRecord) -> UsageError:
    trained = [run for stage in plan.stages if stage.task == "train" for run in stage.runs]
    hint = f"name one of its trainings: {_listed(trained)}" if trained else "it has no training"
    return UsageError(f"{text} is a plan, not a trained network", hint=hint)


def is_over(run: RunDir) -> bool:
    """Whether a training has ended, or was given up: as it is, it will save no later step."""
    events = read_events(run.events)
    is_given_up = bool(events) and events[-1].event == "gave_up"
    return is_given_up or is_completed(events) or is_stopped(events) or is_cancelled(events)


def _finite_bound(run: RunDir) -> float | None:
    """Of a last validation that can be compared: NaN is neither lower nor higher than any other."""
    bound = last_bound(run)
    return bound if bound is not None and math.isfinite(bound) else None


def _count_sets(runs: Sequence[RunDir]) -> int:
    """On how many different sets of proteins runs were validated, as far as they have noted it."""
    return len({_validated_on(run) for run in runs} - {None})


def _validated_on(run: RunDir) -> str | None:
    """Which proteins a run is validated on; None of runs that have not noted it."""
    rows = read_validation_rows(run.validations)
    return rows[-1].proteins if rows else None


def _listed(runs: Sequence[RunDir]) -> str:
    more = f" and {len(runs) - LISTED} more" if len(runs) > LISTED else ""
    named = (f"{_label(run)} ({point})" if (point := _point(run)) else _label(run) for run in runs[:LISTED])
    return ", ".join(named) + more


def _point(run: RunDir) -> str:
    """What is a run's own in its sweep; empty of one that is in none, or whose manifest cannot be read."""
    try:
        return assignments(read_manifest(run).get("point") or {})
    except RunError:
        return ""


def _label(run: RunDir) -> str:
    return f"{run.name}/{run.id}"
