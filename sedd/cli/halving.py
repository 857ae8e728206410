"""Start points of halving sweeps from the login node, where the process that should have started them was killed."""

import os
from collections.abc import Iterable

from sedd.cli.console import note, tell, tell_wait
from sedd.errors import SeddError
from sedd.launch.wake import wake_sweeps_of
from sedd.rundir.layout import RunDir
from sedd.units import counted
from sedd.waiting import slow_waits_told


def wake_and_tell(runs: Iterable[RunDir]) -> None:
    """Let points of the runs' halving sweeps start that may pass their rung; other users' are left alone."""
    try:
        with slow_waits_told(tell_wait):
            woken = wake_sweeps_of(run for run in runs if os.access(run.path, os.W_OK))
    except SeddError as e:
        note(f"cannot start waiting points of a halving sweep: {e.message}")
        return
    if woken:
        names = ", ".join(run.id for run in woken[:3]) + (", …" if len(woken) > 3 else "")
        tell(f"submitted {counted(len(woken), 'run')} that had waited at a rung of a halving sweep: {names}")
