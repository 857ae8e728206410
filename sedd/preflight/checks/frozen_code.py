"""The code that runs is the code that was frozen into the run folder, not another installed one."""

from dataclasses import dataclass
from pathlib import Path

import sedd
from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, fail, ok


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    imported: Path
    frozen: Path


def gather(context: CheckContext) -> Facts | None:
    if context.run is None or not context.run.code.is_dir():  # foreground training runs the code as it is
        return None
    return Facts(imported=Path(sedd.__file__).resolve().parent, frozen=(context.run.code / "sedd").resolve())


def judge(facts: Facts) -> Verdict:
    if facts.imported == facts.frozen:
        return ok(f"sedd is imported from {facts.frozen}")
    return fail(
        f"sedd is imported from {facts.imported}, not from the run's {facts.frozen}",
        "a `sedd` in PYTHONPATH or in the working folder hides it: remove that",
    )


CHECK = Check(
    sides=(Side.NODE,),
    fault=Fault.JOB,
    catches="an edited or other `sedd` that the job would import instead of the frozen one",
    takes="< 0.1 s",
    passing=Facts(imported=Path("/runs/a/1/code/sedd"), frozen=Path("/runs/a/1/code/sedd")),
    failing=Facts(imported=Path("/home/ada/sedd"), frozen=Path("/runs/a/1/code/sedd")),
)
