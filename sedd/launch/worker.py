"""`python -m sedd.launch.worker RUN`: the process that does a job's work (of one rank), started by the job entry.

It ends with a code of `sedd/rundir/exits.py`; the job entry decides what follows.
"""

import contextlib
import errno
import os
import sys
import traceback
from pathlib import Path

from sedd.errors import SeddError
from sedd.launch.freeze import imported_package, require_frozen
from sedd.launch.tasks import WORK
from sedd.launch.words import say
from sedd.rundir.attempts import Cause
from sedd.rundir.exits import Exit
from sedd.rundir.layout import RunDir
from sedd.spec.load import load_resolved


def main(path: str) -> Exit:
    """Do what the run's spec asks for."""
    from sedd.training.stop import StopFlag

    stop = StopFlag()
    stop.install()  # before torch is imported: that takes seconds in which a signal would kill
    run, attempt = RunDir(Path(path)), int(os.environ["SEDD_ATTEMPT"])
    try:
        require_frozen(run, package=imported_package())
        return WORK[load_resolved(run.spec).task](run, attempt, stop)
    except Exception as error:  # the last chance to say why: the job entry reads only the exit code
        with contextlib.suppress(OSError):  # the log may lie on a full disk
            _print_error(error)
        return _say_failed(run, attempt, error)


def _print_error(error: Exception) -> None:
    """Into the log: a line and its hint for what the user can mend, a traceback for everything else."""
    if not _is_users(error):
        traceback.print_exc()
        return
    hint = getattr(error, "hint", None)
    print(f"error: {error}", *([f"hint: {hint}"] if hint else []), sep="\n", file=sys.stderr, flush=True)


def _is_users(error: Exception) -> bool:
    from sedd.training.faults import NodeFaultError

    return isinstance(error, SeddError | NodeFaultError)


def _say_failed(run: RunDir, attempt: int, error: Exception) -> Exit:
    from sedd.training.faults import is_node_fault

    code = Exit.NODE_FAULT if is_node_fault(error) else Exit.CRASHED
    if is_disk_full(error):
        code = Exit.DISK_FULL  # what is said below may find no room either
    say(
        run,
        "failed",
        attempt=attempt,
        cause=Cause.NODE_FAULT if code is Exit.NODE_FAULT else Cause.CRASHED,
        error=str(error) if _is_users(error) else traceback.format_exception_only(error)[-1].strip(),
        rank=int(os.environ.get("RANK", 0)),
        host=os.environ.get("SEDD_HOST", ""),
    )
    return code


def is_disk_full(error: BaseException | None) -> bool:
    """Whether the error, or one that led to it, is a full disk or an exceeded quota."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        error = error.__cause__ or error.__context__
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
