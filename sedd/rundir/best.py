"""The best of several trainings: that with the lowest validation bound, by what the runs themselves have written."""

import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path

from sedd.errors import RunError
from sedd.rundir.attempts import is_stopped
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir

BOUND = "validation_bound"


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
        RunError: none was validated.
    """
    runs = [run for run in runs if not is_stopped(read_events(run.events))] or runs
    bounds = [(bound, number) for number, run in enumerate(runs) if (bound := last_bound(run)) is not None]
    if not bounds:
        names = ", ".join(f"{run.name}/{run.id}" for run in runs[:3])
        raise RunError(
            f"which is the best run is not known: none of {names} was validated",
            hint="training.validation.every_steps must be reached before the last step",
        )
    return runs[min(bounds)[1]]


def link_best(link: Path, runs: Sequence[RunDir]) -> RunDir:
    """Make `link` the best of the runs, unless it is there: whoever comes first decides, and all decide alike.

    Raises:
        RunError: as `best_of`, or it cannot be written.
    """
    if link.is_symlink():
        return RunDir(link.resolve())
    best = best_of(runs)
    temporary = link.with_name(f".{link.name}.{secrets.token_hex(8)}.tmp")
    try:
        link.parent.mkdir(parents=True, exist_ok=True)
        temporary.symlink_to(best.path, target_is_directory=True)
        os.replace(temporary, link)
    except OSError as e:
        raise RunError(f"cannot write {link}: {e.strerror or e}") from e
    return best
