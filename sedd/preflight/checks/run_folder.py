"""The folder of the run: can this user write there, how fast does a checkpoint reach the disk?"""

import errno
from dataclasses import dataclass, replace
from pathlib import Path

from sedd.errors import ClusterError
from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, fail, ok, warn
from sedd.preflight.read.filesystem import Writing, existing, measure_writing
from sedd.preflight.read.footprint import checkpoint_bytes
from sedd.preflight.read.stop_notice import preemption_notice
from sedd.spec.experiment import Experiment
from sedd.spec.task import TaskSpec
from sedd.units import format_bytes, format_duration

_PROBE_BYTES = {Side.LOGIN: 8 << 20, Side.NODE: 64 << 20}
# Half of the notice is for the step that is being computed, the other ranks and a busy file system.
_SHARE = 0.5
_FAULTS = {
    errno.ENOSPC: Fault.DISK,
    errno.EDQUOT: Fault.DISK,
    errno.EACCES: Fault.JOB,
    errno.EPERM: Fault.JOB,
}
"""Of an error in writing, as in `sedd/training/faults.py`; any other is the node's, which may have lost the disk."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    folder: Path
    problem: str | None
    """Why nothing can be written there."""
    at_fault: Fault = Fault.DISK
    """Whose fault that is."""
    writing: Writing | None
    checkpoint_bytes: int | None
    """None: the task saves none."""
    window_s: int | None
    """From the first signal of a preemption to SIGKILL; None: nothing preempts, or SLURM did not say."""


def gather(context: CheckContext) -> Facts | None:
    if context.rank != 0:
        return None
    folder = existing(context.folder)
    writing, problem, at_fault = None, None, Fault.DISK
    try:
        size = _PROBE_BYTES[context.side]
        writing = context.answers.once(
            ("writing", folder, size), lambda: measure_writing(folder, size_bytes=size)
        )
    except OSError as e:
        problem, at_fault = (e.strerror or str(e)).lower(), _FAULTS.get(e.errno or 0, Fault.NODE)
    return Facts(
        folder=folder,
        problem=problem,
        at_fault=at_fault,
        writing=writing,
        checkpoint_bytes=_checkpoint_bytes(context.experiment),
        window_s=_window_s(context),
    )


def judge(facts: Facts) -> Verdict:
    if facts.writing is None:
        return fail(
            f"cannot write in {facts.folder}: {facts.problem}",
            "set SEDD_RUNS to a folder with space that you may write",
            facts.at_fault,
        )
    speed = facts.writing.written_bytes / max(facts.writing.seconds, 1e-9)
    saw = f"{format_bytes(speed)}/s into {facts.folder}"
    if facts.checkpoint_bytes is None:
        return ok(saw)
    save_s = facts.checkpoint_bytes / speed
    saw += f": a checkpoint of {format_bytes(facts.checkpoint_bytes)} takes about {_seconds(save_s)}"
    if facts.window_s is None:
        return ok(saw)
    saw += f" of {format_duration(facts.window_s)} notice"
    if save_s > facts.window_s:
        return fail(
            saw,
            "a preempted run would lose all since its last periodic checkpoint: write to a faster disk",
            Fault.NODE,  # from the login node it was fast enough
        )
    if save_s > _SHARE * facts.window_s:
        return warn(
            saw, "little is left for the running step: write to a faster disk, or checkpoint more often"
        )
    return ok(saw)


def _checkpoint_bytes(experiment: TaskSpec) -> int | None:
    return checkpoint_bytes(experiment) if isinstance(experiment, Experiment) else None


def _window_s(context: CheckContext) -> int | None:
    if context.site is None:
        return None
    try:
        config, partitions = context.slurm.config(), context.query_own_partitions()
    except ClusterError:  # the check `partition` says so
        return None
    windows = [preemption_notice(config, partition).window_s for partition in partitions]
    return min((window for window in windows if window is not None), default=None)


def _seconds(seconds: float) -> str:
    return f"{max(seconds, 0.1):.1f} s" if seconds < 10 else format_duration(seconds)


_FAST = Facts(
    folder=Path("/scratch/runs"),
    problem=None,
    writing=Writing(seconds=0.1, written_bytes=64 << 20, clock_ahead_s=0.0),
    checkpoint_bytes=383 << 20,
    window_s=30,
)

CHECK = Check(
    sides=(Side.LOGIN, Side.NODE),
    fault=Fault.DISK,
    catches="a read-only or full folder; a checkpoint slower than the notice before a preemption",
    takes="0.1 to 1 s",
    passing=_FAST,
    failing=replace(_FAST, folder=Path("/archive/runs"), problem="read-only file system", writing=None),
)
