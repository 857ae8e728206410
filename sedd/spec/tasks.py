"""The kinds of spec, by the `task:` that selects them."""

from sedd.errors import SpecError, did_you_mean
from sedd.spec.build import DataTask
from sedd.spec.command import CommandTask
from sedd.spec.experiment import Experiment
from sedd.spec.inference import EmbedTask, EvaluateTask, SampleTask, ScoreTask
from sedd.spec.task import TaskSpec
from sedd.yaml import Document

TASKS: dict[str, type[TaskSpec]] = {
    "train": Experiment,
    "data": DataTask,
    "evaluate": EvaluateTask,
    "sample": SampleTask,
    "score": ScoreTask,
    "embed": EmbedTask,
    "command": CommandTask,
}


def task_of(document: Document) -> type[TaskSpec]:
    """The kind of spec that a document is. Raises: SpecError for a task that does not exist."""
    asked = document.data.get("task", "train")
    if isinstance(asked, str) and asked in TASKS:
        return TASKS[asked]
    raise SpecError(
        f"{document.where(('task',))}: task is {asked!r}; it must be one of {', '.join(map(repr, TASKS))}",
        hint=did_you_mean(str(asked), TASKS),
    )
