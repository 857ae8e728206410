"""Stop signals set a flag, which the loop reads at the step boundary."""

import contextlib
import os
import signal
import stat
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

    def install_hangup(self) -> None:
        """Take SIGHUP as a stop, too: the terminal of a training in the foreground has gone. Not under nohup.

        What is written into that terminal from then on is lost, and no error.
        """
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            signal.signal(signal.SIGHUP, self._on_hangup)

    def _on_hangup(self, number: int, frame: types.FrameType | None) -> None:
        if os.getpid() == self._owner:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            for stream in (1, 2):
                with contextlib.suppress(OSError):  # closed already
                    if not stat.S_ISREG(
                        os.fstat(stream).st_mode
                    ):  # a pipe's reader has heard the signal, too
                        os.dup2(nowhere, stream)
            os.close(nowhere)
        self._on_signal(number, frame)

    def _on_signal(self, number: int, frame: types.FrameType | None) -> None:
        if os.getpid() != self._owner:
            return  # a forked helper inherits the handler, and gets the group's signals too
        self.signal = self.signal or signal.Signals(number)

    def __bool__(self) -> bool:
        return self.signal is not None
