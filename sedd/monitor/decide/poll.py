"""Yield snapshots until all runs have ended."""

import datetime as dt
import time
from collections.abc import Callable, Iterator, Sequence

from sedd.errors import RunError
from sedd.monitor.decide.snapshot import RunView, Snapshot, Views
from sedd.monitor.decide.state import State
from sedd.monitor.read.gather import Gatherer
from sedd.rundir.layout import RunDir

CONFIRM_S = {"slurm": 30.0}
"""How long a run must look lost before it counts as ended, by executor: SLURM may be about to requeue it."""
_CONFIRM_S = 2.0


def poll(
    runs: Sequence[RunDir],
    *,
    every_s: float,
    gatherer: Gatherer,
    notify: Callable[[str], None] = lambda _: None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Snapshot]:
    """A snapshot of `runs` every `every_s` seconds; the last one when each has ended.

    When SLURM stops answering it is told to `notify`, as when it answers again; meanwhile the run folders speak.

    Raises:
        RunError: the folder of one of them has vanished.
    """
    views, lost_at, was_down = Views(), dict[str, float](), False
    while True:
        snapshot = views.snapshot(gatherer.gather(runs, now=dt.datetime.now(dt.UTC)))
        is_down = snapshot.queue.down_since is not None
        if is_down != was_down:
            notify(
                f"SLURM does not answer ({snapshot.queue.error}); continuing"
                if is_down
                else "SLURM answers again"
            )
        was_down = is_down
        _require_all(runs, snapshot)
        lost = {v.id: lost_at.get(v.id, clock()) for v in snapshot.runs if v.state is State.LOST}
        lost_at = lost
        yield snapshot
        if all(_has_ended(view, clock() - lost.get(view.id, clock())) for view in snapshot.runs):
            return
        sleep(every_s)


def _has_ended(view: RunView, lost_s: float) -> bool:
    if view.state is State.LOST:
        return lost_s >= CONFIRM_S.get(view.executor, _CONFIRM_S)
    return view.state.is_final


def _require_all(runs: Sequence[RunDir], snapshot: Snapshot) -> None:
    seen = {view.run.path for view in snapshot.runs}
    for run in runs:
        if run.path not in seen:
            raise RunError(f"the run folder {run.path} has vanished")
