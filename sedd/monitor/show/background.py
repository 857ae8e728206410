"""Work of the live table in the background: reading runs, cancelling and requeueing them."""

import datetime as dt
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from sedd.errors import SeddError
from sedd.monitor.decide.snapshot import RunView, Snapshot, Views
from sedd.monitor.read.facts import Facts
from sedd.monitor.read.gather import Gatherer
from sedd.monitor.read.queue import BackgroundQueue
from sedd.monitor.show.screen import Action
from sedd.rundir.layout import RunDir
from sedd.rundir.plan_record import PlanRecord

REFRESH_S = 2.0

Do = Callable[[RunDir], str]
"""Cancels or requeues a run; says what came of it."""


class Refresher:
    """Reads the runs in the background, so that a slow disk or SLURM never holds up a key."""

    def __init__(
        self, list_runs: Callable[[], Sequence[RunDir]], list_plans: Callable[[], Sequence[PlanRecord]]
    ) -> None:
        self._list, self._list_plans, self._views = list_runs, list_plans, Views()
        self._gatherer = Gatherer(queue=BackgroundQueue())
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._latest = self._read()
        self._error: Exception | None = None

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def latest(self) -> tuple[Facts, Snapshot, Sequence[PlanRecord]]:
        """What was read last. Raises: what ended the reading, since a table that stands still would lie."""
        if self._error is not None:
            raise self._error
        return self._latest

    def _read(self) -> tuple[Facts, Snapshot, Sequence[PlanRecord]]:
        facts = self._gatherer.gather(self._list(), now=dt.datetime.now(dt.UTC))
        return facts, self._views.snapshot(facts), self._list_plans()

    def _run(self) -> None:
        while not self._stop.wait(REFRESH_S):
            begun = time.monotonic()
            try:
                with suppress(
                    OSError, SeddError
                ):  # a file system that is away for a moment: what is known stays
                    self._latest = self._read()
            except Exception as e:  # the thread that draws must not go on without this one
                self._error = e
                return
            self._stop.wait(min(30.0, 2 * (time.monotonic() - begun)))  # a slow one is asked less often


class ActionRunner:
    """Cancels and requeues in the background, one run at a time: a SLURM that is slow to answer holds up no key."""

    def __init__(self, actions: Mapping[Action, Do]) -> None:
        self._actions = actions
        self._pool = ThreadPoolExecutor(max_workers=1)
        self._begun: list[Future[str]] = []

    def begin(self, action: Action, view: RunView) -> str:
        """Do it soon; what to tell the user meanwhile."""
        self._begun.append(self._pool.submit(self._do, action, view))
        return f"{action} {view.name}: …"

    def news(self) -> str:
        """What came of the last action that has ended since the last call; nothing while there is none."""
        ended = [future.result() for future in self._begun if future.done()]
        self._begun = [future for future in self._begun if not future.done()]
        return ended[-1] if ended else ""

    def finish(self) -> None:
        """Wait for what was begun."""
        self._pool.shutdown()

    def _do(self, action: Action, view: RunView) -> str:
        try:
            return f"{action} {view.name}: {self._actions[action](view.run)}"
        except SeddError as e:
            return f"{action} {view.name}: {e.message}"
        except OSError as e:
            return f"{action} {view.name}: {e.strerror}"
