"""The interface of a check, and the registry of checks: the folder `checks/`."""

import functools
import importlib
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sedd.preflight import checks as folder
from sedd.preflight.context import CheckContext, Side
from sedd.preflight.finding import Verdict
from sedd.spec.task import TaskSpec

Facts = TypeVar("Facts")


@dataclass(frozen=True, slots=True, kw_only=True)
class Check(Generic[Facts]):
    """One question about whether a job will run to its end; its name is its file's.

    Attributes:
        tasks: the kinds of spec for which the question arises.
        catches: what goes wrong without it, for the README's table.
        takes: its usual time, measured, for the same table.
        gather: looks at the world; None where the question does not arise. May raise: then the finding is
            UNKNOWN with the error's message.
        judge: pure.
        of_request: one answer holds for all points of a sweep: asked at the first of them.
        limit_s: seconds after which it is UNKNOWN on a node, where the usual limit is too short.
        of_node: a FAIL is this node's fault: the job goes to another one. Otherwise it would fail there too.
        passing, failing: fact sheets with which it is OK and not OK: proved by the tests, shown in the README.
    """

    sides: tuple[Side, ...]
    tasks: tuple[type[TaskSpec], ...] = (TaskSpec,)
    catches: str
    takes: str
    gather: Callable[[CheckContext], Facts | None]
    judge: Callable[[Facts], Verdict]
    passing: Facts
    failing: Facts
    of_node: bool = False
    of_request: bool = False
    limit_s: float | None = None


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
