"""What a command on the login node does for halving sweeps: the rest of what somebody was killed doing."""

import os
from collections.abc import Iterable

from sedd.cli.console import note, tell
from sedd.errors import SeddError
from sedd.launch.wake import wake_sweeps_of
from sedd.rundir.layout import RunDir


def wake_and_tell(runs: Iterable[RunDir]) -> None:
    """Let points of the runs' halving sweeps start that may pass their rung; other users' are left alone."""
    try:
        woken = wake_sweeps_of(run for run in runs if os.access(run.path, os.W_OK))
    except SeddError as e:
        note(f"a halving sweep waits: {e.message}")
        return
    if woken:
        names = ", ".join(run.id for run in woken[:3]) + (", …" if len(woken) > 3 else "")
        tell(f"{len(woken)} that waited at a rung may go on, and are submitted: {names}")
