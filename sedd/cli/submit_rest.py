"""Submit what a site had no place for as places come free, while somebody waits for the runs."""

import datetime as dt
import time
from collections.abc import Callable, Sequence

import typer

from sedd.cli.console import out, tell
from sedd.cli.main import INTERRUPTED
from sedd.cluster.command import SlurmUnreachableError
from sedd.launch.make_runs import Order
from sedd.launch.submit import resume
from sedd.launch.submitted import find_unfinished, one_submission
from sedd.monitor.decide.snapshot import RunView, Snapshot
from sedd.monitor.decide.state import State
from sedd.monitor.show.follow import follow as follow_runs
from sedd.monitor.show.follow import wait as wait_for
from sedd.rundir.layout import RunDir
from sedd.waiting import slow_waits_told

SOON_S = 10.0
"""At least so long between two tries: sites ask for no more."""
LATER_S = 120.0
"""Places also come free by others' jobs, which nobody tells us of."""


def wait_for_runs(
    runs: Sequence[RunDir], meanwhile: Callable[[Snapshot], None], *, follow: bool, left: str
) -> Sequence[RunView]:
    """The runs once all have ended, with live progress if they are followed.

    Ctrl-C leaves them running, which `left` says of runs that are waited for: exit code 130.
    """
    try:
        if follow:
            return follow_runs(runs, console=out(), meanwhile=meanwhile)
        return wait_for(runs, notify=tell, meanwhile=meanwhile)
    except KeyboardInterrupt:
        if not follow:
            tell(f"\nNo longer waiting; {left}")
        raise typer.Exit(INTERRUPTED) from None


class Rest:
    """What is left of some orders. Called with every look at the runs, it submits more when one of them has ended."""

    def __init__(
        self,
        orders: Sequence[Order],
        *,
        notify: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._orders, self._notify, self._clock = orders, notify, clock
        self._ended = 0
        self._tried = clock()
        self._was_silent = False

    def __call__(self, snapshot: Snapshot) -> None:
        """Submit more, if that is due. Raises: SeddError when the rest is refused, or cannot be submitted."""
        if not any(view.state is State.UNSUBMITTED for view in snapshot.runs):
            return
        ended = sum(view.state.is_final for view in snapshot.runs)
        waited_s = self._clock() - self._tried
        if waited_s < SOON_S or (ended <= self._ended and waited_s < LATER_S):
            return
        self._ended = ended
        for order in self._orders:
            self._submit_more(order)
        self._tried = self._clock()

    def _submit_more(self, order: Order) -> None:
        names = {experiment.name for experiment in order.request.experiments}
        try:
            with slow_waits_told(self._notify), one_submission(names, order.runs):
                unfinished = find_unfinished(order.request.experiments, order.runs)
                if unfinished is None:
                    return
                submission = resume(order, unfinished, now=dt.datetime.now(dt.UTC))
            if submission.count:
                self._notify(f"{order.request.experiments[0].name}: {submission}")
            if submission.stopped_by is not None:
                raise submission.stopped_by
        except SlurmUnreachableError as e:
            if not self._was_silent:
                self._notify(f"the rest waits: {e.message}")
            self._was_silent = True
        else:
            self._was_silent = False
