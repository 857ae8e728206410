"""Stop signals set a flag, which the loop reads at the step boundary."""

import os
import signal
import types

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT)
"""USR2, not USR1: NCCL takes USR1. TERM comes with preemption, USR2 from `--signal`, INT from a terminal."""


class StopFlag:
    """Whether this process has been asked to stop, and by which signal first."""

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        self._owner = os.getpid()

    def install(self) -> None:
        """Take over the stop signals of this process."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: types.FrameType | None) -> None:
        if os.getpid() != self._owner:
            return  # a forked helper inherits the handler, and gets the group's signals too
        self.signal = self.signal or signal.Signals(number)

    def __bool__(self) -> bool:
        return self.signal is not None
