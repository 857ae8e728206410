"""Training processes and their guardian: none outlives the job entry, none is left behind."""

import contextlib
import ctypes
import os
import signal
import subprocess
import time
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO

from sedd.launch.pickled_job import STOP_SIGNALS

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_LIBC = ctypes.CDLL(None, use_errno=True)
DIE_S = 30.0
"""For a process to be gone after SIGKILL."""
_STARTERS = frozenset({b"sedd.launch.wake", b"sedd.launch.submit_local", b"submitit.local._local"})
"""Modules after `python -m` of processes that a job entry may start, and that outlive it."""


class SignalBox:
    """The stop signals that this process received. A handler notes the number, nothing more."""

    def __init__(self) -> None:
        self.received: set[int] = set()

    def install(self) -> None:
        """Take the stop signals over, also from submitit, whose own handlers would save and requeue mid-step."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._note)

    def _note(self, number: int, frame: types.FrameType | None) -> None:
        self.received.add(number)


def accept_signals() -> None:
    """Let the stop signals in that were blocked before this program started: its handlers are installed."""
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)


@contextlib.contextmanager
def signals_held() -> Iterator[None]:
    """Keep stop signals pending, here and in commands started here.

    SLURM signals every process of a step: it would kill the very `scontrol` that asks it for a requeue.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def adopt_orphans() -> None:
    """Become the parent of grandchildren whose parent dies, so that none of them escapes `end_children`."""
    _LIBC.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def start(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    log: IO[bytes] | None,
    keep_open: Sequence[int],
    stdin: int = subprocess.DEVNULL,
) -> "subprocess.Popen[bytes]":
    """Start a training process that gets SIGTERM when this process dies, however it dies."""
    return subprocess.Popen(
        list(command),
        env=dict(environment),
        stdin=stdin,
        stdout=log,
        stderr=subprocess.STDOUT if log else None,
        pass_fds=tuple(keep_open),
        preexec_fn=_die_with_parent,  # safe: the job entry has no Python thread but this one
    )


def end_children(*, grace_s: float, but: frozenset[int] = frozenset()) -> None:
    """SIGTERM all children of this process `but` some, adopted ones too; SIGKILL what is left after `grace_s`.

    One that not even that ends, since it waits for a dead disk, is waited for `DIE_S`: it runs no line more.
    """
    deadline = time.monotonic() + grace_s
    signalled: set[int] = set()
    while (living := _children(but)) and time.monotonic() < deadline + DIE_S:
        number = signal.SIGTERM if time.monotonic() < deadline else signal.SIGKILL
        for pid in living - signalled if number is signal.SIGTERM else living:
            _send(pid, number)
        signalled |= living
        time.sleep(0.05)


def has_children() -> bool:
    """Whether a child of this process lives that does not carry another run."""
    return bool(_children(frozenset()))


def end_processes(
    running: Mapping[int, "subprocess.Popen[bytes]"], *, grace_s: float, is_unwanted: Callable[[], bool]
) -> None:
    """Let processes that were asked to stop finish within `grace_s`, or until it `is_unwanted`; SIGKILL the rest.

    As `end_children` for those that wait for a dead disk: a job that continues this one's run waits for its end.
    """
    deadline = time.monotonic() + grace_s
    while any(process.poll() is None for process in running.values()) and time.monotonic() < deadline:
        if is_unwanted():
            break
        time.sleep(0.2)
    for process in running.values():
        process.kill()
    deadline = time.monotonic() + DIE_S
    while any(process.poll() is None for process in running.values()) and time.monotonic() < deadline:
        time.sleep(0.05)


def _children(but: frozenset[int]) -> set[int]:
    """The living children `but` some; ended ones are reaped on the way."""
    path = Path(f"/proc/self/task/{os.getpid()}/children")
    pids = {int(pid) for pid in path.read_text().split()} if path.exists() else set()
    return {pid for pid in pids - but if not _is_reaped(pid) and not _starts_others(pid)}


def _starts_others(pid: int) -> bool:
    """Whether a child starts, or carries, other runs of this machine: fellows that may pass their rung."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return not _STARTERS.isdisjoint(arguments)


def _is_reaped(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _send(pid: int, number: int) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _die_with_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
