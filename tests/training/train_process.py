"""Run as a script by the tests: train a run folder, and end at an exact step by SIGKILL or by a stop request.

Without arguments it waits for requests, each a line of JSON on stdin, and forks a process for each rank of one: torch
is imported once for all of them. It answers with two lines: their ids, and, after their end, their exit codes.

With an entry in the environment it copies its state to the folder LOCAL_COPIES whenever no copy is being written. The
rank SLOW_RANK takes 0.2 s more for each micro-batch, and ranks compare their times every 4 steps instead of 25.
"""

import json
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


def next_request() -> list[str]:
    """Serve requests until stdin ends; returns in each process that is forked, with its arguments."""
    import torch._dynamo  # noqa: F401 # which an optimizer's first step imports

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # what a terminal's Ctrl-C ends is the ranks
    for line in sys.stdin:
        request, ranks = json.loads(line), []
        for environment in request["environments"]:
            if not (rank := os.fork()):
                become(environment, request["folder"])
                return request["arguments"]
            ranks.append(rank)
        print(json.dumps(ranks), flush=True)
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(r, 0)[1]) for r in ranks]), flush=True)
    sys.exit(0)


def become(environment: dict[str, str], folder: str) -> None:
    """What a process of its own would have found at its start."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)


if __name__ == "__main__":
    path, attempt, end = sys.argv[1:] or next_request()
    folder = RunDir(Path(path))
    stop = EndsAtStep(end, folder)
    ranks = Ranks.from_environment(os.environ)
    if (slow := os.environ.get("SLOW_RANK")) is not None:
        step_clock.WINDOW, stragglers.STEPS = 4, 16
        if slow == str(ranks.rank):
            slow_down()
    outcome = train(folder, attempt=int(attempt), ranks=ranks, stop=stop, place=place())
    sys.exit(0 if outcome is Outcome.COMPLETED else 75)
