"""`python -m sedd.notify.stall RUN`: tell from a compute node that an attempt stands still, beside its job entry."""

import datetime as dt
import subprocess
import sys
from pathlib import Path

from sedd.rundir.heartbeat import Heartbeat, read_heartbeat
from sedd.rundir.layout import RunDir

STALLED_S = 600.0
"""Without a step, a validation batch or a checkpoint."""


def begin_to_tell(run: RunDir) -> "subprocess.Popen[bytes]":
    """Start it as a process of its own: the job entry must hear signals meanwhile."""
    return subprocess.Popen(
        [sys.executable, "-m", "sedd.notify.stall", str(run.path)],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def is_stalled(beat: Heartbeat) -> bool:
    """Whether the training has not moved for long, as its own process says; waiting for a disk is told elsewhere."""
    since = dt.datetime.fromisoformat(beat.progress_t)
    return beat.phase != "waiting" and (dt.datetime.now(dt.UTC) - since).total_seconds() > STALLED_S


def main(path: str) -> None:
    from sedd.notify.tell import tell_stall

    run = RunDir(Path(path))
    if (beat := read_heartbeat(run.heartbeat)) is not None:
        tell_stall(run, attempt=beat.attempt, why=stall_words(beat), is_login=False)


def stall_words(beat: Heartbeat) -> str:
    """Since when nothing has moved, and where it stopped, in the unit of the task."""
    place = f"step {beat.step}" if beat.unit == "steps" else f"{beat.step:,} {beat.unit}"
    return f"nothing has moved since {beat.progress_t[:19]} UTC, at {place}, in phase {beat.phase}"


if __name__ == "__main__":
    main(sys.argv[1])
