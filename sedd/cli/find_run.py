"""Find the one run to show when the user may have named a sweep."""

from sedd.cli.console import note
from sedd.rundir.find import find_runs, runs_root
from sedd.rundir.layout import RunDir, read_manifest


def find_one(text: str) -> RunDir:
    """The run that is named; of a sweep the point that moved last, and stderr says so.

    Raises:
        UsageError, RunError: as `find_runs`.
    """
    runs = find_runs(text, runs_root())
    found = max(reversed(runs), key=_moved)  # of equals the newest
    if len(runs) > 1:
        point = ", ".join(
            f"{key}={value}" for key, value in (read_manifest(found).get("point") or {}).items()
        )
        note(f"{text} is a sweep of {len(runs)} runs; this is the one that moved last, {found.id} ({point})")
    return found


def _moved(run: RunDir) -> float:
    return max((path.stat().st_mtime for path in (run.heartbeat, run.metrics) if path.exists()), default=0.0)
