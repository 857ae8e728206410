"""What the next `sedd` command on the login node still has to tell: of runs that moved since the last one looked."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from sedd.errors import SeddError
from sedd.notify.marker import marker, moved_since
from sedd.notify.tell import tell_end
from sedd.rundir.find import list_runs


def tell_pending(root: Path) -> Iterator[str]:
    """Tell the ends that nobody has told; yields what went wrong, a line each."""
    mark = marker(root)
    began = time.time()
    try:
        since = moved_since(mark, began)
    except OSError:
        return
    for run in list_runs(root):
        try:
            if os.stat(run.events).st_mtime < since or os.stat(run.manifest).st_uid != os.geteuid():
                continue
            tell_end(run, is_login=True)
        except SeddError as e:
            yield e.message
        except OSError:
            continue  # its folder has vanished
    with contextlib.suppress(OSError):  # a file system that is read-only: they are looked at again
        os.utime(mark, (began, began))
