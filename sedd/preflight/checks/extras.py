"""Packages beyond the required ones, for what this spec asks for."""

import importlib.util
import shlex
import sys
from dataclasses import dataclass, replace

from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, fail, ok
from sedd.spec.experiment import Experiment
from sedd.spec.inference import EmbedTask, EvaluateTask, SampleTask, ScoreTask, TrainedTask
from sedd.spec.task import TaskSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    extra: str
    """Of protein-sedd, as pip names it."""
    package: str
    asked: str
    """The field that wants it."""
    without: str
    """What does without."""
    is_here: bool


def gather(context: CheckContext) -> Facts | None:
    wanted = _wanted(context.experiment)
    if wanted is None or not context.is_first_here:
        return None
    extra, package, asked, without = wanted
    is_here = importlib.util.find_spec(package) is not None
    return Facts(extra=extra, package=package, asked=asked, without=without, is_here=is_here)


def judge(facts: Facts) -> Verdict:
    if facts.is_here:
        return ok(f"{facts.package}, for {facts.asked}")
    mend = shlex.join([sys.executable, "-m", "pip", "install", f"protein-sedd[{facts.extra}]"])
    return fail(f"{facts.asked} needs {facts.package}, which is not installed", f"{mend}; or {facts.without}")


def _wanted(task: TaskSpec) -> tuple[str, str, str, str] | None:
    if isinstance(task, Experiment) and "tensorboard" in task.tracking.files:
        return "tensorboard", "tensorboard", "tracking.files: [tensorboard]", "tracking.files: []"
    if isinstance(task, SampleTask) and task.sample.report:
        return "report", "parasail", "sample.report", "sample.report: false"
    if isinstance(task, EvaluateTask) and task.evaluate.per_sequence == "parquet":
        return "parquet", "pyarrow", "evaluate.per_sequence: parquet", "evaluate.per_sequence: csv"
    if isinstance(task, ScoreTask) and task.score.format == "parquet":
        return "parquet", "pyarrow", "score.format: parquet", "score.format: csv"
    if isinstance(task, EmbedTask) and task.embed.format == "parquet":
        return "parquet", "pyarrow", "embed.format: parquet", "embed.format: npz"
    return None


_REPORT = Facts(
    extra="report", package="parasail", asked="sample.report", without="sample.report: false", is_here=True
)

CHECK = Check(
    tasks=(Experiment, TrainedTask),
    sides=(Side.LOGIN, Side.NODE),
    fault=Fault.NODE,
    catches="an optional package that this spec wants: parasail for a report, pyarrow for Parquet, tensorboard",
    takes="< 0.1 s",
    passing=_REPORT,
    failing=replace(_REPORT, is_here=False),
)
