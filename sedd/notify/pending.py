"""What the next `sedd` command on the login node still has to tell: of runs that moved since the last one looked."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

from sedd.errors import SeddError
from sedd.notify.marker import marker
from sedd.notify.tell import tell_end
from sedd.rundir.find import list_runs

_SLACK_S = 900.0
"""Clocks of nodes and file servers differ; a run that is looked at twice is told once all the same."""


def tell_pending(root: Path) -> Iterator[str]:
    """Tell the ends that nobody has told; yields what went wrong, a line each."""
    mark = marker(root)
    try:
        since = mark.stat().st_mtime - _SLACK_S
    except OSError:
        return
    began = time.time()
    for run in list_runs(root):
        try:
            if os.stat(run.events).st_mtime < since or os.stat(run.manifest).st_uid != os.geteuid():
                continue
            tell_end(run, is_login=True)
        except SeddError as e:
            yield e.message
        except OSError:
            continue  # its folder has vanished
    os.utime(mark, (began, began))
