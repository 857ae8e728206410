"""List the runs and plans below a root again and again; only folders that changed are read."""

import os
import time
from pathlib import Path

from sedd.rundir.layout import RunDir
from sedd.rundir.plan_record import PlanRecord, list_plans

_SETTLED_NS = 2_000_000_000
"""A folder that changed less long ago may change again without its time changing: some file systems count seconds."""


_PLANS_S = 20.0
"""A plan may be submitted again without a new run."""


class Listing:
    """Every run and plan below `root`, as `sedd.rundir` lists them, with a memory."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._names: dict[str, tuple[int, list[RunDir]]] = {}
        self._runs: list[RunDir] = []
        self._plans: list[PlanRecord] = []
        self._plans_of: list[RunDir] | None = None
        self._plans_at = 0.0

    def runs(self) -> list[RunDir]:
        """The runs now, oldest first; the same `RunDir`s as last time."""
        names: dict[str, tuple[int, list[RunDir]]] = {}
        for path in _folders(str(self._root)):
            stamp = _changed_ns(path)
            old = self._names.get(path)
            names[path] = old if old and old[0] == stamp else _scan(path, stamp, old[1] if old else [])
        if [found for _, found in names.values()] != [found for _, found in self._names.values()]:
            self._runs = sorted(
                (run for _, found in names.values() for run in found),
                key=lambda run: os.path.basename(str(run.path)),
            )
        self._names = names
        return self._runs

    def plans(self) -> list[PlanRecord]:
        """The newest record of every plan, read again where runs have come or gone, and now and then."""
        now = time.monotonic()
        if self._plans_of is not self._runs or now - self._plans_at > _PLANS_S:
            self._plans, self._plans_of, self._plans_at = list_plans(self._root), self._runs, now
        return self._plans


def _scan(path: str, stamp: int, known: list[RunDir]) -> tuple[int, list[RunDir]]:
    """The runs in one folder, and the stamp under which they may be remembered."""
    old = {str(run.path): run for run in known}
    parent = Path(path)
    found, waiting = [], False
    for folder in _folders(path):
        if os.path.exists(f"{folder}/manifest.json") and os.path.exists(f"{folder}/spec.yaml"):
            found.append(old.get(folder) or RunDir(parent / os.path.basename(folder)))
        else:
            waiting = True  # its manifest is written last, and will not change this folder's time
    settled = not waiting and time.time_ns() - stamp > _SETTLED_NS
    return (stamp if settled else -1), found


def _folders(path: str) -> list[str]:
    try:
        return [entry.path for entry in os.scandir(path) if entry.is_dir() and entry.name[0] != "."]
    except OSError:
        return []


def _changed_ns(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return -2
