"""`python -m sedd.job.worker RUN`: the process that does a job's work (of one rank), started by the job entry.

It ends with a code of `sedd/rundir/exits.py`; the job entry decides what follows.
"""

import atexit
import contextlib
import os
import signal
import sys
import traceback
from pathlib import Path

from sedd.errors import SeddError
from sedd.job.causes import by_exit
from sedd.job.final_events import record_event
from sedd.job.stacks import offer_stacks
from sedd.job.standby import STAND_BY, await_attempt
from sedd.job.stdout import survive_full_disk
from sedd.job.tasks import WORK
from sedd.launch.freeze import imported_package, require_frozen
from sedd.launch.pickled_job import STOP_SIGNALS
from sedd.rundir.energy_meter import energy_written, open_meter
from sedd.rundir.events import refusal
from sedd.rundir.exits import Exit
from sedd.rundir.layout import RunDir
from sedd.rundir.process_name import Place, name_process
from sedd.rundir.rank_progress import progress_writer
from sedd.spec.load import load_resolved


def main(path: str) -> Exit:
    """Do what the run's spec asks for."""
    from sedd.training.stop import StopFlag

    stop = StopFlag()
    stop.install()  # before torch is imported: that takes seconds in which a signal would kill
    run, attempt = RunDir(Path(path)), int(os.environ["SEDD_ATTEMPT"])
    rank = int(os.environ.get("RANK", 0))
    name_process(str(Place(attempt, rank)))
    try:
        require_frozen(run, package=imported_package())
        spec = load_resolved(run.spec)
        # A training's progress is watched from here on: the driver, or the disk under torch, may hang, too.
        if spec.task == "train":
            progress_writer(os.environ).phase("starting")
        meter = open_meter(os.environ, gpus=spec.resources.gpus_per_node)
        with energy_written(run.energy, rank=rank, attempt=attempt, meter=meter):
            return WORK[spec.task](run, attempt, stop)
    except Exception as error:  # the last chance to say why: the job entry reads only the exit code
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
    from sedd.training.faults import NodeFaultError, PeerAbsentError

    return isinstance(error, SeddError | NodeFaultError | PeerAbsentError)


def _say_failed(run: RunDir, attempt: int, error: Exception) -> Exit:
    from sedd.training.faults import exit_of

    code = exit_of(error, folder=run.path)
    if code is Exit.SUPERSEDED:
        return code  # the folder is another attempt's now
    is_said = record_event(
        run,
        "failed",
        attempt=attempt,
        cause=by_exit(code),
        lost_peer=code is Exit.PEER_LOST,
        **({"misfit": True} if code is Exit.MISFIT else {}),
        **({"absent": absent} if (absent := list(getattr(error, "absent", ()))) else {}),
        error=str(error) if _is_users(error) else traceback.format_exception_only(error)[-1].strip(),
        rank=int(os.environ.get("RANK", 0)),
        host=os.environ.get("SEDD_HOST", ""),
    )
    # Without room for a word nobody can judge what went wrong: it is to be seen again when there is space.
    return code if is_said or refusal(run.events) else Exit.DISK_FULL


def _deafen() -> None:
    """The outcome is decided: a signal during the interpreter's end, which restores defaults, must not replace it."""
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)


class _End:
    """Ends this process without taking apart what it has imported, which is 0.7 s of a core where that is torch.

    The next attempt, or the next job, waits for this end. Registered before libraries register what they do at an
    exit, it comes after them.
    """

    code = 1
    """Of a process that ends before it has another."""

    def now(self) -> None:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):  # a full disk, a closed stream
                stream.flush()
        os._exit(self.code)


if __name__ == "__main__":
    end = _End()
    atexit.register(end.now)
    survive_full_disk()
    offer_stacks()
    if STAND_BY in sys.argv:
        await_attempt()
    end.code = main(sys.argv[-1])
    _deafen()
    sys.exit(end.code)
