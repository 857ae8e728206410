"""Each rank's progress (phase, step, time), in memory of its node that its job entry reads.

The job entry makes a file in memory (`memfd`) for each rank that it starts, and hands the descriptor down as
`SEDD_PROGRESS_FD`. The training of every rank, not only of rank 0, writes a record of 61 bytes at each step and each
change of phase: some microseconds, no disk, nothing that is left behind. Where there is no entry (`sedd train`), or a
container closes the descriptor, nothing is written, and nothing is judged.

Times are those of `time.monotonic`: processes of one node share that clock, and it never jumps.
"""

import contextlib
import dataclasses
import os
import struct
import time
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

VARIABLE = "SEDD_PROGRESS_FD"
"""Number of the inherited descriptor, in the environment of a training process."""

PHASES = (
    *("starting", "staging", "warming up", "training", "validating"),
    *("checkpointing", "waiting", "stopping", "done", "meeting"),
)
"""starting: until the first step, reported again when all ranks have met, and when resumed; staging: copying stores to
the node; warming up: the first steps, in which kernels are compiled, and on a GPU two windows of `log_every_steps` (the
host runs ahead of the card until it waits for it there); checkpointing: the loop itself waits for a checkpoint;
waiting: for space on the disk, or for permission to write; meeting: waiting for the other ranks, all of them after a
save that the loop waits for, those but rank 0 before each step, too."""

_RECORD = struct.Struct("<Idqddd16sB")
"""Checksum of what follows, t, step, step_s, slowest_s, save_since, spare bytes, number of the phase."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RankProgress:
    """What a rank reported last.

    Attributes:
        t: when (`time.monotonic`).
        step_s: host seconds of the last step: from the report before it, of whatever kind, to its own.
        slowest_s: the longest of those in this attempt but for its first, which may compile.
        save_since: since when a checkpoint is being written in the background; 0 if none is.
    """

    t: float
    step: int
    phase: str
    step_s: float
    slowest_s: float
    save_since: float = 0.0


class ProgressWriter:
    """Reports the progress of this rank; to nobody where `descriptor` is None."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._steps = 0
        self.last = RankProgress(t=time.monotonic(), step=0, phase="starting", step_s=0.0, slowest_s=0.0)
        """What was reported last."""

    def phase(self, name: str) -> None:
        """The loop does something else for a while, or has moved on within it (a validation batch)."""
        self._write(dataclasses.replace(self.last, t=time.monotonic(), phase=name))

    @contextlib.contextmanager
    def within(self, name: str) -> Iterator[None]:
        """A phase inside another one, which continues afterwards."""
        before = self.last.phase
        self.phase(name)
        try:
            yield
        finally:
            self.phase(before)

    def step(self, step: int, *, phase: str = "training", save_since: float = 0.0) -> None:
        """A step was taken."""
        now, last = time.monotonic(), self.last
        step_s = now - last.t
        slowest_s = max(last.slowest_s, step_s) if self._steps else 0.0
        self._steps += 1
        self._write(
            RankProgress(
                t=now, step=step, phase=phase, step_s=step_s, slowest_s=slowest_s, save_since=save_since
            )
        )

    def _write(self, progress: RankProgress) -> None:
        self.last = progress
        if self._descriptor is not None:
            os.pwrite(self._descriptor, _encode(progress), 0)


def progress_writer(environment: Mapping[str, str]) -> ProgressWriter:
    """The writer of this process, by the descriptor that its job entry has handed down."""
    number = environment.get(VARIABLE, "")
    if not number.isdecimal():
        return ProgressWriter(None)
    try:
        name = os.readlink(f"/proc/self/fd/{number}")
    except OSError:
        return ProgressWriter(None)
    # Whoever has closed it may have opened another file under its number.
    return ProgressWriter(int(number) if name.startswith("/memfd:sedd-progress") else None)


def open_progress() -> int:
    """A new descriptor for one rank's progress, to be inherited by its training; the caller closes it."""
    return os.memfd_create("sedd-progress")


def read_progress(descriptor: int) -> RankProgress | None:
    """What a rank has reported last; None before its first report, and while it is just writing one."""
    return parse_progress(os.pread(descriptor, _RECORD.size, 0))


def parse_progress(content: bytes) -> RankProgress | None:
    """A record, or None for anything that is not a whole one."""
    if len(content) != _RECORD.size:
        return None
    check, t, step, step_s, slowest_s, save_since, _, phase = _RECORD.unpack(content)
    if check != zlib.crc32(content[4:]) or phase >= len(PHASES):
        return None
    return RankProgress(
        t=t, step=step, phase=PHASES[phase], step_s=step_s, slowest_s=slowest_s, save_since=save_since
    )


def _encode(progress: RankProgress) -> bytes:
    p, phase = progress, PHASES.index(progress.phase)
    body = _RECORD.pack(0, p.t, p.step, p.step_s, p.slowest_s, p.save_since, b"", phase)[4:]
    return struct.pack("<I", zlib.crc32(body)) + body
