"""What a program of the user's own reads: a FASTA file, or the run that samples it; and scripts that its words name."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, fail, ok, warn
from sedd.spec.command import CommandTask


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    fasta: Path
    problem: str | None = None
    """Why it cannot be read."""
    unknown_program: str | None = None
    """The first word of `run`, where this machine has no program of that name."""
    missing: tuple[str, ...] = ()
    """Words of `run` that look like files beside the spec, and are none."""


def gather(context: CheckContext) -> Facts:
    task = context.experiment
    assert isinstance(task, CommandTask)
    fasta = task.command.fasta
    if not fasta.exists():
        return Facts(fasta=fasta, problem=f"{fasta} does not exist")
    return Facts(
        fasta=fasta,
        problem=None if os.access(fasta, os.R_OK) else f"{fasta} may not be read by you",
        unknown_program=_unknown(task.command.run[0]) if context.side is Side.LOGIN else None,
        missing=missing_files(task.command.run) if context.side is Side.LOGIN else (),
    )


def _unknown(program: str) -> str | None:
    is_name = "/" not in program and not any(mark in program for mark in "{~$")
    return program if is_name and shutil.which(program) is None else None


def missing_files(words: Sequence[str]) -> tuple[str, ...]:
    """Words that look like a file beside the spec, but are none: in a loaded spec such files are whole paths."""
    return tuple(word for number, word in enumerate(words) if _looks_like_file(word, is_program=number == 0))


def _looks_like_file(word: str, *, is_program: bool) -> bool:
    """Whether a word is a script's name or a relative path; `facebook/esmfold_v1` may be a model."""
    if word.startswith(("-", "/", "~")) or any(mark in word for mark in ("{", "://", " ", "\n")):
        return False
    suffix = Path(word).suffix
    if "/" not in word:
        return suffix in _SCRIPTS
    return is_program or bool(suffix) or word.startswith(("./", "../"))


def judge(facts: Facts) -> Verdict:
    if facts.problem:
        return fail(
            facts.problem,
            "command.fasta: a file, or a run's folder; paths are taken from the spec's own folder",
        )
    if facts.missing:
        return warn(
            f"command.run names {', '.join(facts.missing)}: not beside the spec",
            "the program runs in the run's folder, where only files beside the spec are found by such a name",
        )
    if facts.unknown_program:
        return warn(
            f"this machine has no program {facts.unknown_program}",
            "the node must have it on its PATH, as after the profile's setup",
        )
    return ok(f"{facts.fasta}")


_SCRIPTS = (".bash", ".jl", ".pl", ".py", ".r", ".R", ".rb", ".sh")


CHECK = Check(
    tasks=(CommandTask,),
    sides=(Side.LOGIN, Side.NODE),
    fault=Fault.FILES,
    reads=(("command", "fasta"),),
    catches="proteins for a program of your own, or its script, that are not there",
    takes="< 0.1 s",
    passing=Facts(fasta=Path("/data/p.fasta")),
    failing=Facts(fasta=Path("/data/p.fasta"), problem="/data/p.fasta does not exist"),
)
