"""The process tree of a local run, found by its command lines: each of them names the run's folder."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from sedd.cluster.local import LocalJob, find_local, signal_local
from sedd.launch.protocol import JOB_ENTRY, NAMES
from sedd.rundir.layout import RunDir
from sedd.rundir.process_name import find_place

GRACE_S = 60.0
"""For local training to write its checkpoint; then SIGKILL. Under SLURM the site's KillWait does the same."""
POLL_S = 0.1


class Role(StrEnum):
    """What a process is to its run."""

    CONTROLLER = "controller"
    ENTRY = "entry"
    TRAINING = "training"


_MODULES: dict[Role, frozenset[str]] = {
    Role.CONTROLLER: frozenset({"submitit.local._local"}),
    # submitit's program until it has become the job entry
    Role.ENTRY: frozenset({"submitit.core._submit", JOB_ENTRY}),
    Role.TRAINING: frozenset(names.worker for names in NAMES.values()),
}
"""The module after `python -m` in each role."""


@dataclass(frozen=True, slots=True)
class Member:
    """A living process of a run on this machine."""

    role: Role
    process: LocalJob


def find_members(run: RunDir) -> list[Member]:
    """The living processes of a run on this machine."""
    names = _names_of(run)
    return [
        Member(role, process)
        for pid, arguments in _command_lines()
        if (role := _role_by(arguments, names)) and (process := find_local(pid))
    ]


def role_in(arguments: list[str], run: RunDir) -> Role | None:
    """The part that a command line plays in a run, or None."""
    return _role_by(arguments, _names_of(run))


def _names_of(run: RunDir) -> frozenset[str]:
    """How a command line may name the run: by its real path, or by a link that leads there."""
    real = RunDir(Path(os.path.realpath(run.path)))
    return frozenset(str(path) for each in (run, real) for path in (each.path, each.submitit))


def _role_by(arguments: list[str], names: frozenset[str]) -> Role | None:
    if names.isdisjoint(arguments):
        return None
    return next((role for role, modules in _MODULES.items() if modules & set(arguments)), None)


def ask_to_stop(run: RunDir, *roles: Role) -> int:
    """SIGTERM to the run's processes in these roles; how many got it."""
    return sum(signal_local(m.process, signal.SIGTERM) for m in find_members(run) if m.role in roles)


def end_all(run: RunDir, *, grace_s: float) -> bool:
    """Wait until no process of the run is left, after `grace_s` with SIGKILL; whether none had to be killed."""
    if wait_until(lambda: not find_members(run), timeout_s=grace_s):
        return True
    for member in find_members(run):
        signal_local(member.process, signal.SIGKILL)
    wait_until(lambda: not find_members(run), timeout_s=5.0)
    return False


def end_training(run: RunDir, *, attempt: int, grace_s: float) -> None:
    """Wait until nobody on this machine trains for this attempt any more, after `grace_s` with SIGKILL.

    Its job entry was killed: SIGTERM has reached the training, and it may be saving. SLURM takes it for gone where it
    follows processes by their parents only.
    """
    if not wait_until(lambda: not find_training(run, attempt=attempt), timeout_s=grace_s):
        for member in find_training(run, attempt=attempt):
            signal_local(member.process, signal.SIGKILL)


def find_training(run: RunDir, *, attempt: int) -> list[Member]:
    """The processes on this machine that train for this attempt."""
    places = ((m, find_place(m.process.pid)) for m in find_members(run) if m.role is Role.TRAINING)
    return [member for member, place in places if place is not None and place.attempt == attempt]


def wait_until(is_so: Callable[[], bool], *, timeout_s: float) -> bool:
    """Whether it became so in time."""
    deadline = time.monotonic() + timeout_s
    while not is_so():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def _command_lines() -> Iterator[tuple[int, list[str]]]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                content = Path(entry.path, "cmdline").read_bytes()
            except OSError:
                continue
            yield int(entry.name), content.decode(errors="replace").split("\0")
