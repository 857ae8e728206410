"""Load specs: a YAML file and `--set` overrides become resolved specs."""

import copy
import dataclasses
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field, create_model

from sedd.complaints import Key, in_line_order
from sedd.errors import SpecError, UsageError
from sedd.home import expand_home
from sedd.spec.experiment import validated_differently
from sedd.spec.halving import HalvingSpec
from sedd.spec.sweep import Point, SweepSpec
from sedd.spec.task import TaskSpec, path_keys, places
from sedd.spec.tasks import TASKS, task_of
from sedd.yaml import Document, dump_document, load_document, parse_override, validate
from sedd.yaml_text import assignments


class Swept(TaskSpec):
    """What a file may hold besides the spec of one run."""

    sweep: SweepSpec | None = Field(default=None)
    """Many runs from this one file."""


FILES: dict[type[TaskSpec], type[TaskSpec]] = {
    task: create_model(f"{task.__name__}File", __base__=(task, Swept), __doc__=task.__doc__)
    for task in TASKS.values()
}
"""What a user writes for each task: its spec, and perhaps a sweep over it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a spec file asks for: one run, or one for each point of its sweep."""

    experiments: tuple[TaskSpec, ...]
    points: tuple[Point, ...]
    """The overrides that made each experiment, dotted key to value; one empty mapping without a sweep."""
    parallel: int | None
    """Runs that may go on at the same time; None: no limit."""
    halving: HalvingSpec | None = None
    """How losers among the points are stopped; None: all go on to their end."""


@dataclass(frozen=True, slots=True)
class Change:
    """A value that replaces one of the file."""

    key: tuple[str, ...]
    value: Any
    origin: str
    """Where it was given, such as `--set seed=1`."""


def load_request(path: Path, overrides: Iterable[str] = ()) -> Request:
    """Resolve a spec file.

    Relative paths in the file are taken from its own folder, those in `overrides` (`key=value`) from the
    working folder.

    Raises:
        SpecError: with every problem of the file, each with its line.
    """
    changes = [Change(*parse_override(text), origin=f"--set {text}") for text in overrides]
    document = load_document(path)
    if "stages" in document.data:
        raise SpecError(
            f"{document.where(('stages',))}: this is a plan, not the spec of one job",
            hint="sedd submit and sedd preflight take it",
        )
    if "executor" in document.data and "name" not in document.data:
        raise SpecError(
            f"{document.where(('executor',))}: this is a cluster profile, not the spec of a job",
            hint=f"give it as --cluster {path}",
        )
    return resolve_request(document, changes, base=path.resolve().parent, changes_base=Path.cwd())


def resolve_request(
    document: Document, changes: Sequence[Change], *, base: Path, changes_base: Path
) -> Request:
    """As `load_request`, of a file's document: its relative paths are from `base`, those of the changes from another.

    Raises:
        SpecError: as `load_request`.
    """
    data = copy.deepcopy(document.data)
    origins: dict[Key, str] = dict(document.origins)
    given = dataclasses.replace(document, data=data, origins=origins)
    task = task_of(given)
    _make_paths_absolute(given, task, base)
    for change in changes:
        origins[change.key] = change.origin
        _set(data, change.key, change.value, origin=change.origin)
    task = task_of(given)
    _make_paths_absolute(given, task, changes_base)
    asked = validate(FILES[task], given)
    assert isinstance(asked, Swept)
    if asked.sweep is None:
        single = task.model_validate(asked.model_dump(exclude={"sweep"}, mode="json"))
        return Request(experiments=(single,), points=({},), parallel=None)
    points, halving = tuple(asked.sweep.points()), asked.sweep.halving
    experiments = _at_points(given, points, base)
    if halving:
        _require_halvable(experiments, halving, given.where(("sweep", "halving")))
    return Request(experiments=experiments, points=points, parallel=asked.sweep.parallel, halving=halving)


def _require_halvable(experiments: Sequence[TaskSpec], halving: HalvingSpec, where: str) -> None:
    """Raises: SpecError with what keeps points from being compared at the rungs."""
    problems = {text: None for experiment in experiments for text in halving.complaints(experiment)}
    if len({experiment.steps for experiment in experiments}) > 1:
        problems["all points must have the same training.steps: rungs are a share of them"] = None
    if differing := validated_differently(experiments):
        keys = " and ".join(differing)
        problems[f"all points must have the same {keys}: they are compared by the same validation"] = None
    if problems:
        raise SpecError("\n".join(f"{where}: sweep.halving: {text}" for text in problems))


def load_resolved(path: Path) -> TaskSpec:
    """The spec of a run folder's spec.yaml, whatever its task. Raises: SpecError."""
    document = load_document(path)
    return validate(task_of(document), document)


Task = TypeVar("Task", bound=TaskSpec)


def load_resolved_as(task: type[Task], path: Path) -> Task:
    """The spec of a run folder that is known to have this task. Raises: SpecError."""
    return validate(task, load_document(path))


def dump_resolved(experiment: TaskSpec) -> str:
    """YAML of a spec with every default written out; `load_resolved` reads it back equal."""
    return dump_document(experiment.model_dump(mode="json"))


def _at_points(document: Document, points: Sequence[Point], base: Path) -> tuple[TaskSpec, ...]:
    """The experiment of each sweep point. Raises: SpecError with the problems of all of them."""
    experiments: list[TaskSpec] = []
    problems: dict[str, str] = {}
    for point in points:
        try:
            experiments.append(_at_point(document, point, base))
        except SpecError as e:
            for line in e.message.splitlines():
                problems.setdefault(line, assignments(point))
    if problems:
        raise SpecError("\n".join(f"{p} (in the sweep at {problems[p]})" for p in in_line_order(problems)))
    return tuple(experiments)


def _at_point(document: Document, point: Point, base: Path) -> TaskSpec:
    data, origins = copy.deepcopy(document.data), dict(document.origins)
    kind = next(kind for kind in data.pop("sweep") if kind not in ("parallel", "halving"))
    for dotted, value in point.items():
        key = tuple(dotted.split("."))
        origins[key] = document.where(("sweep", kind, *(["over"] if kind == "random" else []), dotted))
        _set(data, key, value, origin=origins[key])
    given = dataclasses.replace(document, data=data, origins=origins)
    task = task_of(given)
    _make_paths_absolute(given, task, base)
    return validate(task, given)


def _set(data: dict[str, Any], key: tuple[str, ...], value: Any, *, origin: str) -> None:
    """Set a dotted key, making the sections on its way. Raises: SpecError when a value is in the way."""
    for depth, part in enumerate(key[:-1]):
        if data.get(part) is None:
            data[part] = {}
        data = data[part]
        if not isinstance(data, dict):
            raise SpecError(f"{origin}: '{'.'.join(key[: depth + 1])}' is a value, not a section")
    data[key[-1]] = value


def _make_paths_absolute(document: Document, task: type[TaskSpec], base: Path) -> None:
    """Make the task's paths absolute, in place; what is not a path is left for the validation to name."""
    for pattern in path_keys(task):
        for holder, last, key in places(document.data, pattern):
            if isinstance(holder[last], str):
                holder[last] = str(_below(base, _expand(holder[last], document.where(key), key)))
    for pattern in task.FILE_WORDS:
        for holder, last, _ in places(document.data, pattern):
            if isinstance(holder[last], str) and os.path.isfile(base / holder[last]):
                holder[last] = str(base / holder[last])


def _below(base: Path, path: Path) -> Path:
    """A path from a folder that is itself no link, so that `..` at its beginning is the folder above."""
    while path.parts[:1] == ("..",):
        base, path = base.parent, Path(*path.parts[1:])
    return base / path


def _expand(text: str, where: str, key: Key) -> Path:
    expanded = os.path.expandvars(text)
    if missing := re.search(r"\$\{?(\w+)\}?", expanded):
        raise SpecError(
            f"{where}: {'.'.join(map(str, key))} is {text!r}: the environment has no variable {missing[1]}",
            hint=f"export {missing[1]}=…",
        )
    try:
        return expand_home(expanded)
    except UsageError as e:
        raise SpecError(f"{where}: {'.'.join(map(str, key))}: {e.message}", hint=e.hint) from e
