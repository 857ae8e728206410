"""Find what to show: the one run where the user may have named a sweep, or what there is of several."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sedd.cli.console import note
from sedd.errors import RunError, SeddError, UsageError
from sedd.rundir.find import each_once, find_runs, runs_root
from sedd.rundir.layout import RunDir, read_manifest
from sedd.rundir.plan_record import find_plan
from sedd.yaml_text import assignments


def find_one(text: str) -> RunDir:
    """The run that is named; of a sweep or plan the one with the newest progress, and stderr says so.

    Raises:
        UsageError, RunError: as `find_runs`.
    """
    runs = find_runs(text, runs_root())
    found = max(reversed(runs), key=_moved)  # of equals the newest
    if len(runs) > 1:
        point = assignments(read_manifest(found).get("point") or {})
        what = "plan" if find_plan(text, runs_root()) else "sweep"
        which = f"{found.name}/{found.id}" if what == "plan" else found.id
        shown = f"{which} ({point})" if point else which
        note(f"{text} is a {what} of {len(runs)} runs; this is the one with the newest progress, {shown}")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What there is of several runs that are named."""

    runs: list[RunDir]
    """Each once."""
    texts: list[str]
    """Those that name them."""
    error: SeddError | None
    """Of the other texts, a line for each."""


def find_each(texts: Sequence[str], root: Path) -> Found:
    """Find the runs, sweeps and plans that several texts name, though others of the texts name none."""
    runs: list[RunDir] = []
    errors: dict[str, SeddError] = {}
    for text in texts:
        try:
            runs += find_runs(text, root)
        except SeddError as e:
            errors[text] = e
    return Found(
        runs=each_once(runs),
        texts=[text for text in texts if text not in errors],
        error=_joined(list(errors.values())) if errors else None,
    )


def _joined(errors: Sequence[SeddError]) -> SeddError:
    """One error for several: of bad input if they all are."""
    if len(errors) == 1:
        return errors[0]
    kind = UsageError if all(isinstance(e, UsageError) for e in errors) else RunError
    hints = dict.fromkeys(e.hint for e in errors if e.hint)
    return kind("\n".join(dict.fromkeys(e.message for e in errors)), hint="; ".join(hints) or None)


def _moved(run: RunDir) -> float:
    return max((path.stat().st_mtime for path in (run.heartbeat, run.metrics) if path.exists()), default=0.0)
