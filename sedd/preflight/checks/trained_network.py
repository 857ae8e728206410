"""What evaluation and sampling start from: a network that is there, and FASTA files that can be read."""

from dataclasses import dataclass
from pathlib import Path

from sedd.errors import UsageError
from sedd.preflight.check import Check, CheckContext, Side, Verdict, fail, ok, warn
from sedd.preflight.read.filesystem import unreadable
from sedd.rundir.find import find_run
from sedd.spec.inference import TrainedTask

EXPORTED = ("config.json", "model.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    network: Path
    kind: str | None
    """checkpoint, export or run; None where there is nothing of the kind."""
    checkpoints: int = 0
    """Of a run: sealed ones."""
    problem: str | None = None
    """Why a FASTA file cannot be read."""


def gather(context: CheckContext) -> Facts:
    task = context.experiment
    assert isinstance(task, TrainedTask)
    kind, checkpoints = _kind(task.network)
    return Facts(network=task.network, kind=kind, checkpoints=checkpoints, problem=unreadable(task.inputs))


def judge(facts: Facts) -> Verdict:
    if facts.problem:
        return fail(facts.problem, "paths are taken from the spec's own folder")
    if facts.kind is None:
        return fail(
            f"{facts.network} is not a run, checkpoint or exported folder",
            "network: names one of these; paths are taken from the spec's own folder",
        )
    if facts.kind == "run" and not facts.checkpoints:
        return warn(f"{facts.network} has no checkpoint yet", "submit when its training has saved one")
    return ok(f"{facts.network}: {facts.kind}")


def _kind(path: Path) -> tuple[str | None, int]:
    if path.is_file():
        return "checkpoint", 1
    if all((path / name).is_file() for name in EXPORTED):
        return "export", 0
    if not path.is_dir():
        return None, 0
    try:
        run = find_run(str(path), path)
    except UsageError:
        return None, 0
    return "run", sum(p.with_suffix(".json").exists() for p in run.checkpoints.glob("step-*.pt"))


CHECK = Check(
    tasks=(TrainedTask,),
    reads=((),),  # all that the spec names
    sides=(Side.LOGIN, Side.NODE),
    catches="a network or FASTA file that is not there, a run without a checkpoint (evaluate, sample, score)",
    takes="< 0.1 s",
    passing=Facts(network=Path("/runs/small"), kind="run", checkpoints=3),
    failing=Facts(network=Path("/runs/smal"), kind=None),
)
