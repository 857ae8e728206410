"""`sedd status --watch` in a pseudo-terminal, with keys pressed and the screen read as a person would."""

import codecs
import contextlib
import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from collections.abc import Iterator
from pathlib import Path

PATIENCE_S = 60.0
"""A machine that does ten other things is slow, not wrong."""
_HOME = "\x1b[H"
"""What every new frame begins with."""


class Terminal:
    """The command, running; no SLURM on its PATH unless a test gives it one."""

    def __init__(self, runs: Path, *, path: str = "/nowhere") -> None:
        self.pid, self.handle = pty.fork()
        if self.pid == 0:
            # Not execv: pytest's readline has set LINES and COLUMNS behind the back of os.environ, from which the
            # processes of pytest-xdist have them.
            free = {name: value for name, value in os.environ.items() if name not in ("LINES", "COLUMNS")}
            environment = free | {"SEDD_RUNS": str(runs), "TERM": "xterm", "PATH": path}
            os.execve(sys.executable, [sys.executable, "-m", "sedd", "status", "--watch"], environment)
        self.resize(24, 80)
        self._drawn = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def resize(self, lines: int, columns: int) -> None:
        fcntl.ioctl(self.handle, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def press(self, keys: str) -> None:
        os.write(self.handle, keys.encode())

    @property
    def screen(self) -> str:
        """What is on it now, without colours."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self._drawn.rpartition(_HOME)[2])

    def until(self, *texts: str, without: str | None = None) -> bool:
        """Wait until all `texts` are on the screen, and `without` is not; whether that came about."""
        for _ in self._moments():
            shown = self.screen
            if all(text in shown for text in texts) and (without is None or without not in shown):
                return True
        return False

    def exit_code(self) -> int:
        """Wait for the end of the command; -1 if it does not come."""
        for _ in self._moments():
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
        return -1

    def close(self) -> None:
        if self.pid:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
        os.close(self.handle)

    def _moments(self) -> Iterator[None]:
        """Read what is drawn, again and again until patience ends; in between, nothing is being drawn."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            with contextlib.suppress(OSError):  # the command has ended
                while select.select([self.handle], [], [], 0.05)[0]:
                    self._drawn += self._decoder.decode(os.read(self.handle, 65536))
            yield
