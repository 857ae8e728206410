"""What a program of the user's own reads: a FASTA file, or the run that samples it."""

import os
from dataclasses import dataclass
from pathlib import Path

from sedd.preflight.check import Check, CheckContext, Side, Verdict, fail, ok
from sedd.spec.command import CommandTask


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    fasta: Path
    problem: str | None = None
    """Why it cannot be read."""


def gather(context: CheckContext) -> Facts:
    task = context.experiment
    assert isinstance(task, CommandTask)
    fasta = task.command.fasta
    if not fasta.exists():
        return Facts(fasta=fasta, problem=f"{fasta} does not exist")
    return Facts(
        fasta=fasta, problem=None if os.access(fasta, os.R_OK) else f"{fasta} may not be read by you"
    )


def judge(facts: Facts) -> Verdict:
    if facts.problem:
        return fail(
            facts.problem,
            "command.fasta: a file, or a run's folder; paths are taken from the spec's own folder",
        )
    return ok(f"{facts.fasta}")


CHECK = Check(
    tasks=(CommandTask,),
    sides=(Side.LOGIN, Side.NODE),
    reads=(("command", "fasta"),),
    catches="proteins for a program of your own that are not there",
    takes="< 0.1 s",
    passing=Facts(fasta=Path("/data/p.fasta")),
    failing=Facts(fasta=Path("/data/p.fasta"), problem="/data/p.fasta does not exist"),
)
