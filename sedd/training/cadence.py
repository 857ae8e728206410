"""Decide when the next periodic checkpoint is due: at given steps, or as often as saving is cheap."""

import time
from collections.abc import Callable, Sequence
from enum import IntEnum

from sedd.spec.training import CheckpointSpec

MIN_S, MAX_S = 60.0, 3600.0
"""Bounds of a chosen interval: Young's optimum, sqrt(2 * save time * mean time between kills) (CACM 17(9), 1974), for
one kill a day and saves of 0.02 s and of 75 s."""
_RECENT = 3
LOCAL_OVERHEAD = 0.01
"""Share of the time that copies to the node may take from the training."""


class Tier(IntEnum):
    """Where a periodic save goes; a number, since rank 0 tells the others."""

    NONE = 0
    """It is not time for one."""
    NODE = 1
    """To the node's own disk or memory."""
    SHARED = 2
    """To the run folder."""


class Cadence:
    """Rank 0's clock of periodic saves.

    It alone writes, so it alone decides; where a save takes all ranks, the loop tells them. A run's result does not
    depend on it: from whichever step it resumes, it ends with the same bits.
    """

    def __init__(
        self, spec: CheckpointSpec, *, past_s: Sequence[float], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._spec = spec
        self._past_s = [*past_s][-_RECENT:]
        self._clock = clock
        self._last = clock()

    def is_due(self, step: int, *, is_saving: bool) -> bool:
        """Whether to save after this step; `is_saving`: an earlier save is still being written."""
        spec = self._spec
        if spec.keep_every_steps and step % spec.keep_every_steps == 0:
            return True
        if spec.every_steps is not None:
            return step % spec.every_steps == 0
        slowest_s = max(self._past_s, default=None)
        return not is_saving and self._clock() - self._last >= interval_s(slowest_s, overhead=spec.overhead)

    def begun(self) -> None:
        """A save begins now."""
        self._last = self._clock()

    def took(self, seconds: float) -> None:
        """A save took so long."""
        self._past_s = [*self._past_s, seconds][-_RECENT:]


def interval_s(save_s: float | None, *, overhead: float) -> float:
    """Seconds from the beginning of one save to that of the next, so that saving fills `overhead` of them.

    Before the first measurement, the shortest interval: the first save is the measurement.
    """
    return MIN_S if save_s is None else min(max(save_s / overhead, MIN_S), MAX_S)


class LocalCadence:
    """Rank 0's clock of copies to the node: every this many seconds, less often where they cost the training more."""

    def __init__(self, every_s: float | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._clock = clock
        self._last = clock()
        self._cost_s = 0.0

    def is_due(self) -> bool:
        """Whether to copy now; never without an interval."""
        if self._every_s is None:
            return False
        return self._clock() - self._last >= max(self._every_s, self._cost_s / LOCAL_OVERHEAD)

    def begun(self) -> None:
        """A copy, or a checkpoint that makes one needless, begins now."""
        self._last = self._clock()

    def cost(self, seconds: float) -> None:
        """The newest copy took so much from the training."""
        self._cost_s = seconds
