"""`python -m sedd.launch.wake RUN`: let the points of a halving sweep start again that are known to pass their rung.

No process stays alive for a sweep. Whoever moves it (a point that arrives at a rung, gives up or is cancelled; a
command on the login node) decides what can be decided now, and submits those that wait and have won. Killed at any
moment, it is done by whoever comes next, once.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from sedd.cluster.profile import SlurmProfile
from sedd.errors import SeddError
from sedd.halving.fellows import Halving, passed_rungs, reached_rung, read_halving
from sedd.halving.rungs import decide_all
from sedd.launch.pickled_job import STOP_SIGNALS
from sedd.launch.requeue import revival_parameters
from sedd.launch.resources import read_manifest_profile
from sedd.launch.submit_local import submit_local
from sedd.launch.submit_slurm import confirm_submissions, submit_array
from sedd.launch.unconfirmed import one_at_a_time
from sedd.rundir.attempts import is_paused
from sedd.rundir.events import Event, read_events
from sedd.rundir.layout import RunDir
from sedd.rundir.lock import one_action
from sedd.spec.load import load_resolved


def wake_fellows(run: RunDir) -> list[RunDir]:
    """Decide what can be decided in the run's halving sweep, and submit the points that may go on; returns those.

    Raises:
        SeddError: a folder cannot be read or written, or not all could be submitted.
    """
    halving = read_halving(run)
    if halving is None:
        return []
    group = decide_all(run, halving)
    woken: list[RunDir] = []
    errors: list[SeddError] = []
    for fellow in group.fellows.values():
        if not may_start(fellow.events):
            continue
        try:
            woken += [fellow.run] if _wake(fellow.run) else []
        except SeddError as e:
            errors.append(e)
    if errors:
        raise errors[0]
    return woken


def wake_sweeps_of(runs: Iterable[RunDir]) -> list[RunDir]:
    """As `wake_fellows`, once for each halving sweep among the runs. Raises: SeddError, after all had their turn."""
    sweeps: dict[tuple[Path, str], RunDir] = {}
    for run in runs:
        halving = _readable_halving(run)
        if halving is not None:
            sweeps.setdefault((run.path.parent, halving.group), run)
    woken: list[RunDir] = []
    errors: list[SeddError] = []
    for run in sweeps.values():
        try:
            woken += wake_fellows(run)
        except SeddError as e:
            errors.append(e)
    if errors:
        raise errors[0]
    return woken


def may_start(events: Sequence[Event]) -> bool:
    """Whether a run waits at a rung that it may pass by now, and has no job yet."""
    return is_paused(events) and reached_rung(events) in passed_rungs(events)


def begin_to_wake(run: RunDir) -> "subprocess.Popen[bytes]":
    """Do it in a process of its own: the job entry must hear signals meanwhile."""
    return subprocess.Popen(
        [sys.executable, "-m", "sedd.launch.wake", str(run.path)],
        stdin=subprocess.DEVNULL,
        start_new_session=True,
    )


def try_to_wake(run: RunDir) -> None:
    """As `wake_fellows`, on a node: what goes wrong is a line in the log, and somebody else's to do later."""
    try:
        for woken in wake_fellows(run):
            print(f"run {woken.id} passes its rung, and is submitted", flush=True)
    except (SeddError, OSError) as e:
        what = e.message if isinstance(e, SeddError) else e.strerror
        print(f"the halving sweep waits: {what}; sedd status or sedd requeue tries again", flush=True)


def _wake(run: RunDir) -> bool:
    """Submit a run that may start, unless somebody has meanwhile. Raises: SeddError."""
    with one_action(run):
        profile = read_manifest_profile(run)
        if isinstance(profile, SlurmProfile):
            confirm_submissions(run.submitit)
            if not may_start(read_events(run.events)):
                return False
            parameters = revival_parameters(run, load_resolved(run.spec), profile)
            return bool(submit_array([run], parameters, folder=run.submitit))
        with one_at_a_time(run.submitit) as handle:
            if not may_start(read_events(run.events)):
                return False
            submit_local([run], keeps_open=[handle])
            return True


def _readable_halving(run: RunDir) -> Halving | None:
    try:
        return read_halving(run)
    except SeddError:
        return None


if __name__ == "__main__":
    if "SLURM_JOB_ID" in os.environ:  # its signals reach every process of a step, sbatch too
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try_to_wake(RunDir(Path(sys.argv[1])))
