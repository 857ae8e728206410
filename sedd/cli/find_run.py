"""Find the one run to show when the user may have named a sweep."""

from sedd.cli.console import note
from sedd.rundir.find import find_runs, runs_root
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


def _moved(run: RunDir) -> float:
    return max((path.stat().st_mtime for path in (run.heartbeat, run.metrics) if path.exists()), default=0.0)
