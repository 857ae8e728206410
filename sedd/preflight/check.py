"""What a check is made of, and the registry of checks: the folder `checks/`, whose files import from here alone."""

import functools
import importlib
import pkgutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

from sedd.preflight import checks as folder
from sedd.preflight.context import SLURM_TIMEOUT_S, CheckContext, Side
from sedd.preflight.finding import Fault, Verdict, combine, fail, ok, unknown, warn
from sedd.spec.task import TaskSpec

__all__ = [
    "SLURM_TIMEOUT_S",
    "CheckContext",
    "Fault",
    "Side",
    "Verdict",
    "combine",
    "fail",
    "ok",
    "unknown",
    "warn",
]

Facts = TypeVar("Facts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Generic[Facts]):
    """One question about whether a job will run to its end; its name is its file's, which holds the answers too.

    Attributes:
        tasks: the kinds of spec for which the question arises.
        catches: what goes wrong without it, for the README's table.
        takes: its usual time, measured, for the same table.
        of_request: one answer holds for all points of a sweep: asked at the first of them.
        reads: keys of the spec below which stand the files and folders that it opens. Where an earlier stage of a plan
            is still to make one of them, the check is not made: it is LATER.
        only_with: a section of the spec without which the question does not arise, though `reads` names files.
        limit_s: seconds after which it is UNKNOWN on a node, where the usual limit is too short.
        before_cuda: on a node it looks before this process takes memory of a card.
        fault: what a FAIL on a node is blamed on, unless its verdict says otherwise; None: it does not run on nodes.
        passing, failing: fact sheets with which it is OK and not OK: proved by the tests, shown in the README.
    """

    sides: tuple[Side, ...]
    tasks: tuple[type[TaskSpec], ...] = (TaskSpec,)
    catches: str
    takes: str
    passing: Facts
    failing: Facts
    before_cuda: bool = False
    fault: Fault | None = None
    of_request: bool = False
    reads: tuple[tuple[str, ...], ...] = ()
    only_with: tuple[str, ...] = ()
    limit_s: float | None = None

    def paths(self, context: CheckContext) -> list[Path]:
        """What the specs name of what the check opens."""
        runs = context.runs_together if self.of_request else (context.experiment,)
        return [
            path
            for run in runs
            if _has(run, self.only_with)
            for key, path in run.paths().items()
            if any(key[: len(section)] == section for section in self.reads)
        ]

    def gather(self, context: CheckContext) -> Facts | None:
        """Look at the world; None where the question does not arise.

        Whatever it raises makes the finding UNKNOWN, with the error's message.
        """
        found: Facts | None = self._file.gather(context)
        return found

    def judge(self, facts: Facts) -> Verdict:
        """What the facts mean; pure."""
        verdict: Verdict = self._file.judge(facts)
        return verdict

    @property
    def _file(self) -> Any:
        """The module of the check: the one that defines its facts."""
        return sys.modules[type(self.passing).__module__]


def _has(spec: TaskSpec, section: tuple[str, ...]) -> bool:
    found: Any = spec
    for name in section:
        found = getattr(found, name)
    return found is not None


@functools.cache
def all_checks() -> Mapping[str, Check[Any]]:
    """Name to check, for every file in `checks/`."""
    names = sorted(module.name for module in pkgutil.iter_modules(folder.__path__))
    return {name: importlib.import_module(f"{folder.__name__}.{name}").CHECK for name in names}


def checks_of(side: Side, task: type[TaskSpec]) -> Mapping[str, Check[Any]]:
    """The checks of one side for one kind of spec."""
    return {
        name: check
        for name, check in all_checks().items()
        if side in check.sides and issubclass(task, check.tasks)
    }
