"""Main memory that the spec asks of a node, against what its processes and the copy for checkpoints take."""

from dataclasses import dataclass

from sedd.preflight.check import Check, CheckContext, Side, Verdict, ok, warn
from sedd.preflight.read.footprint import checkpoint_bytes, main_memory_bytes
from sedd.spec.experiment import Experiment
from sedd.units import format_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    asked_bytes: int
    needed_bytes: int
    """By the first node, which saves."""
    copy_bytes: int
    """Of them, what a save copies there."""
    processes: int
    """A node."""


def gather(context: CheckContext) -> Facts | None:
    experiment = context.training_run
    if context.site is None:
        return None
    return Facts(
        asked_bytes=experiment.resources.memory,
        needed_bytes=main_memory_bytes(experiment),
        copy_bytes=checkpoint_bytes(experiment),
        processes=experiment.resources.ranks_per_node,
    )


def _processes(count: int) -> str:
    return "1 process" if count == 1 else f"{count} processes"


def judge(facts: Facts) -> Verdict:
    needed = format_bytes(facts.needed_bytes)
    saw = (
        f"{format_bytes(facts.asked_bytes)} a node; {_processes(facts.processes)} and the copy for checkpoints "
        f"({format_bytes(facts.copy_bytes)}) take about {needed}"
    )
    if facts.asked_bytes >= facts.needed_bytes:
        return ok(saw)
    return warn(saw, f"SLURM may kill the job for it: write resources.memory: {_next_gib(facts)}GiB or more")


def _next_gib(facts: Facts) -> int:
    return -(-facts.needed_bytes >> 30)


CHECK = Check(
    tasks=(Experiment,),
    sides=(Side.LOGIN,),
    catches="less main memory than the processes of a node take: SLURM kills such a job",
    takes="< 0.1 s",
    passing=Facts(asked_bytes=32 << 30, needed_bytes=7 << 30, copy_bytes=1409 << 20, processes=4),
    failing=Facts(asked_bytes=4 << 30, needed_bytes=7 << 30, copy_bytes=1409 << 20, processes=4),
)
