"""Processes that are kept stopped, whoever wants to wake them: SLURM sends SIGCONT before SIGTERM."""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

_AGAIN_S = 0.005


class Freezer:
    """Sends SIGSTOP again and again, by file descriptors that mean this very process and no later one of its number."""

    def __init__(self) -> None:
        self._held: dict[int, float | None] = {}
        """Until when, by file descriptor; None: until it is killed."""
        self._slow: tuple[float, tuple[Path, ...]] = (0.0, ())
        self._seen: set[str] = set()
        self._lock = threading.Lock()
        threading.Thread(target=self._keep, daemon=True).start()

    def hold(self, pid: int, seconds: float | None = None) -> bool:
        """Stop a process for a while, or for good; whether it was alive."""
        try:
            handle = os.pidfd_open(pid)
            signal.pidfd_send_signal(handle, signal.SIGSTOP)
        except ProcessLookupError:
            return False
        with self._lock:
            self._held[handle] = None if seconds is None else time.monotonic() + seconds
        return True

    def slow_down(self, folders: tuple[Path, ...], seconds: float) -> None:
        """For a while whoever writes a checkpoint into one of the folders stands still for two seconds meanwhile."""
        self._slow = (time.monotonic() + seconds, folders)

    def _keep(self) -> None:
        while True:
            time.sleep(_AGAIN_S)
            if time.monotonic() < self._slow[0]:
                self._hold_writers()
            with self._lock:
                for handle, until in list(self._held.items()):
                    if not self._is_held(handle, until):
                        os.close(handle)
                        del self._held[handle]

    def _is_held(self, handle: int, until: float | None) -> bool:
        is_over = until is not None and time.monotonic() > until
        try:
            signal.pidfd_send_signal(handle, signal.SIGCONT if is_over else signal.SIGSTOP)
        except ProcessLookupError:
            return False
        return not is_over

    def _hold_writers(self) -> None:
        for folder in self._slow[1]:
            for name in half_written(folder):
                if name not in self._seen:
                    self._seen.add(name)
                    self.hold(writer_of(name), 2.0)


def half_written(folder: Path) -> list[str]:
    """Names of checkpoints that are being written now."""
    with contextlib.suppress(OSError):
        return [name for name in os.listdir(folder) if name.endswith(".tmp")]
    return []


def writer_of(name: str) -> int:
    """The process that writes `.step-00000150.pt.<host>.<pid>.tmp`."""
    return int(name.split(".")[-2])
