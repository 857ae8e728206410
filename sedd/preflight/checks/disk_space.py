"""Room for the checkpoints: bytes and inodes of the file system that holds the run."""

from dataclasses import dataclass, replace
from pathlib import Path

from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, fail, ok, warn
from sedd.preflight.read.filesystem import Space, existing, query_mount, query_space
from sedd.preflight.read.footprint import checkpoint_bytes, kept_checkpoints
from sedd.preflight.read.quota import Quota, query_quota
from sedd.spec.experiment import Experiment
from sedd.units import counted, format_bytes

# Logs, metrics, frozen code, wandb: by far less than this.
_OTHER_BYTES = 200 << 20
_INODES = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    folder: Path
    space: Space
    quota: Quota | None
    checkpoint_bytes: int
    checkpoints: int
    """Of one run: kept at its end, and the one that is written aside."""
    needed_bytes: int
    """By all runs that are submitted together."""
    runs: int = 1


def gather(context: CheckContext) -> Facts | None:
    if context.rank != 0:
        return None
    mount = query_mount(context.folder)
    together = context.training_runs if context.side is Side.LOGIN else (context.training_run,)
    return Facts(
        folder=existing(context.folder),
        space=query_space(context.folder),
        quota=query_quota(mount) if mount else None,
        checkpoint_bytes=checkpoint_bytes(context.training_run),
        checkpoints=kept_checkpoints(context.training_run),
        needed_bytes=sum(map(_needed_bytes, together)),
        runs=len(together),
    )


def judge(facts: Facts) -> Verdict:
    one, free, limited_by = facts.checkpoint_bytes, facts.space.free_bytes, "free"
    inodes = facts.space.free_inodes
    if facts.quota and facts.quota.left_bytes is not None and facts.quota.left_bytes < free:
        free, limited_by = facts.quota.left_bytes, "left by your quota"
    if facts.quota and facts.quota.left_files is not None:
        inodes = min(facts.quota.left_files, inodes if inodes is not None else facts.quota.left_files)
    needed, several = facts.needed_bytes, f"{facts.runs} runs, each " if facts.runs > 1 else ""
    saw = f"{format_bytes(free)} {limited_by} in {facts.folder}"
    hint = (
        f"needs {format_bytes(needed)}: {several}{counted(facts.checkpoints, 'checkpoint')} of {format_bytes(one)}, "
        f"and {format_bytes(_OTHER_BYTES)} for all else; "
        "free some, keep fewer (training.checkpoint.keep), or set SEDD_RUNS"
    )
    if inodes is not None and inodes < _INODES:
        return fail(f"{saw}, but only {inodes} inodes", f"a run makes up to {_INODES} files: remove some")
    if free < min(2, facts.checkpoints) * one + _OTHER_BYTES:
        return fail(saw, hint)
    if free < needed:
        return warn(saw, hint)
    kept = f"{several}{counted(facts.checkpoints, 'checkpoint')} of {format_bytes(one)}"
    return ok(f"{saw}; {kept} need {format_bytes(needed)}")


def _needed_bytes(experiment: Experiment) -> int:
    return kept_checkpoints(experiment) * checkpoint_bytes(experiment) + _OTHER_BYTES


_ROOMY = Facts(
    folder=Path("/scratch/runs"),
    space=Space(free_bytes=90 << 30, free_inodes=10**6, is_read_only=False),
    quota=None,
    checkpoint_bytes=383 << 20,
    checkpoints=4,
    needed_bytes=4 * 383 << 20,
)

CHECK = Check(
    tasks=(Experiment,),
    sides=(Side.LOGIN, Side.NODE),
    fault=Fault.DISK,
    of_request=True,
    catches="a full disk or quota, too few inodes, more checkpoints than fit",
    takes="0.1 s",
    passing=_ROOMY,
    failing=replace(_ROOMY, space=replace(_ROOMY.space, free_bytes=300 << 20)),
)
