"""What a stage gives to those that need it: `${train.run}` in their specs. Every value is a path."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sedd.rundir.layout import RunDir
from sedd.spec.build import DataTask
from sedd.spec.sweep import Point
from sedd.spec.task import TaskSpec
from sedd.spec.tasks import TASKS


@dataclass(frozen=True, slots=True, kw_only=True)
class StageRuns:
    """The runs of a stage, their specs and the overrides that made them, in the order of its points."""

    name: str
    runs: tuple[RunDir, ...]
    experiments: tuple[TaskSpec, ...]
    points: tuple[Point, ...]
    folder: Path
    """The plan's, where links are made."""


@dataclass(frozen=True, slots=True)
class Value:
    """One thing that a stage gives.

    Attributes:
        tasks: the kinds of stage that have it.
        of: the path, of the run with this number.
        of_many: it is one path, however many runs the stage has.
    """

    tasks: frozenset[str]
    of: Callable[[StageRuns, int], Path]
    of_many: bool = False


def _store(stage: StageRuns, number: int) -> Path:
    task = stage.experiments[number]
    assert isinstance(task, DataTask)
    return task.build.store


VALUES: dict[str, Value] = {
    "run": Value(frozenset(TASKS), lambda stage, n: stage.runs[n].path),
    "best": Value(
        frozenset({"train"}), lambda stage, _: best_link(stage) or stage.runs[0].path, of_many=True
    ),
    "store": Value(frozenset({"data"}), _store),
    "samples": Value(frozenset({"sample"}), lambda stage, n: stage.runs[n].samples / "samples.fasta"),
}
"""By what stands behind the dot."""


def best_link(stage: StageRuns) -> Path | None:
    """The link that the first run to need it makes to the best of several trainings; None for a single one.

    Its name follows from the runs among which it chooses: with another run it is another link.
    """
    if len(stage.runs) == 1:
        return None
    digest = hashlib.sha256("\0".join(str(run.path) for run in stage.runs).encode()).hexdigest()[:12]
    return stage.folder / "best" / f"{stage.name}-{digest}"
