"""Whether a run folder is still there: what is trained without one cannot be kept."""

import os
import threading
import time
from pathlib import Path

from sedd.rundir.layout import RunDir

LOOK_S = 2.0
GRACE_S = 10.0
"""For a run folder to come back: a file server may hide it for a moment."""


def is_gone(path: Path) -> bool:
    """Whether there is no such file or folder. One that may not be looked at, or whose server fails, is not gone."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


class Presence:
    """Looks again and again whether a run folder is there."""

    def __init__(self, run: RunDir) -> None:
        self._run = run
        self._missed_since: float | None = None

    def is_gone(self, now: float) -> bool:
        """Whether it has been gone for longer than `GRACE_S`; `now` is `time.monotonic()`."""
        if not is_gone(self._run.manifest):
            self._missed_since = None
            return False
        if self._missed_since is None:
            self._missed_since = now
        return now - self._missed_since > GRACE_S


def describe_absence(run: RunDir) -> str:
    return f"the run folder {run.path} is gone: deleted or moved; the training was ended"


def exit_without_folder(run: RunDir) -> threading.Thread:
    """End this process with exit code 1, and say why on standard output, when its run folder is gone.

    At once: whatever an orderly end writes would make half a folder anew. The thread that watches is returned.
    """

    def watch() -> None:
        presence = Presence(run)
        while not presence.is_gone(time.monotonic()):
            time.sleep(LOOK_S)
        os.write(1, f"{describe_absence(run)}\n".encode())
        os._exit(1)

    thread = threading.Thread(target=watch, name="run folder", daemon=True)
    thread.start()
    return thread
