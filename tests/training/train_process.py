"""Run as a script by the tests: train a run folder, and end at an exact step by SIGKILL or by a stop request.

With an entry in the environment it copies its state to the folder LOCAL_COPIES whenever no copy is being written. The
rank SLOW_RANK takes 0.2 s more for each micro-batch, and ranks compare their times every 4 steps instead of 25.
"""

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

from sedd.rundir.layout import RunDir
from sedd.rundir.node_folder import ENTRY_VARIABLE
from sedd.training import step_clock, stragglers
from sedd.training.cadence import LocalCadence
from sedd.training.distributed import Ranks
from sedd.training.local_copies import NodePlace
from sedd.training.loop import Outcome, train
from sedd.training.network import Network
from sedd.training.stop import StopFlag


class EndsAtStep(StopFlag):
    """Asked once before every step, it counts, and does what it was told when its step has come."""

    def __init__(self, end: str, folder: RunDir) -> None:
        super().__init__()
        self._folder, first_step = folder, newest_step(folder)
        self._how, _, step = end.partition(":")
        self._step = int(step or -1)
        self._seen = first_step

    def __bool__(self) -> bool:
        due = self._how != "never" and self._seen >= self._step
        if self._how == "kill-one":
            due = due and os.environ["RANK"] == "1"
        self._seen += 1
        while due and self._how == "kill-saved" and newest_step(self._folder) == 0:
            time.sleep(0.05)
        if due and self._how.startswith("kill"):
            os.kill(os.getpid(), signal.SIGKILL)
        if due:
            self.signal = signal.SIGTERM
        return due


def newest_step(run: RunDir) -> int:
    return max((int(p.stem.removeprefix("step-")) for p in run.checkpoints.glob("step-*.json")), default=0)


def place() -> NodePlace | None:
    if ENTRY_VARIABLE not in os.environ:
        return None
    LocalCadence.is_due = lambda self: True
    return NodePlace(entry=os.environ[ENTRY_VARIABLE], folder=os.environ["LOCAL_COPIES"])


def slow_down() -> None:
    quick = Network.loss_of

    def slowly(*arguments: Any, **named: Any) -> Any:
        time.sleep(0.2)
        return quick(*arguments, **named)

    Network.loss_of = slowly


if __name__ == "__main__":
    folder = RunDir(Path(sys.argv[1]))
    stop = EndsAtStep(sys.argv[3], folder)
    ranks = Ranks.from_environment(os.environ)
    if (slow := os.environ.get("SLOW_RANK")) is not None:
        step_clock.WINDOW, stragglers.STEPS = 4, 16
        if slow == str(ranks.rank):
            slow_down()
    outcome = train(folder, attempt=int(sys.argv[2]), ranks=ranks, stop=stop, place=place())
    sys.exit(0 if outcome is Outcome.COMPLETED else 75)
