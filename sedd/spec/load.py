"""From a YAML file and `--set` overrides to resolved experiments."""

import copy
import dataclasses
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from sedd.complaints import Key
from sedd.errors import SpecError
from sedd.spec.experiment import Experiment
from sedd.spec.sweep import Point, SweepSpec
from sedd.yaml import Document, dump_document, load_document, parse_override, validate


class ExperimentFile(Experiment):
    """What a user writes: an experiment, and perhaps a sweep over it."""

    sweep: SweepSpec | None = Field(default=None)
    """Many runs from this one file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a spec file asks for: one run, or one for each point of its sweep."""

    experiments: tuple[Experiment, ...]
    points: tuple[Point, ...]
    """The overrides that made each experiment, dotted key to value; one empty mapping without a sweep."""
    parallel: int | None
    """Runs that may go on at the same time; None: no limit."""


def load_request(path: Path, overrides: Iterable[str] = ()) -> Request:
    """Resolve a spec file.

    Relative paths in the file are taken from its own folder, those in `overrides` (`key=value`) from the
    working folder.

    Raises:
        SpecError: with every problem of the file, each with its line.
    """
    document = load_document(path)
    base = path.resolve().parent
    data = copy.deepcopy(document.data)
    said: dict[Key, str] = {}
    given = dataclasses.replace(document, data=data, said=said)
    _make_store_absolute(given, base)
    for text in overrides:
        key, value = parse_override(text)
        said[key] = f"--set {text}"
        _set(data, key, value, said=said[key])
    _make_store_absolute(given, Path.cwd())
    asked = validate(ExperimentFile, given)
    if asked.sweep is None:
        single = Experiment.model_validate(asked.model_dump(exclude={"sweep"}, mode="json"))
        return Request(experiments=(single,), points=({},), parallel=None)
    points = tuple(asked.sweep.points())
    return Request(experiments=_at_points(given, points, base), points=points, parallel=asked.sweep.parallel)


def load_resolved(path: Path) -> Experiment:
    """The experiment of a run folder's spec.yaml. Raises: SpecError."""
    return validate(Experiment, load_document(path))


def dump_resolved(experiment: Experiment) -> str:
    """YAML of an experiment with every default written out; `load_resolved` reads it back equal."""
    return dump_document(experiment.model_dump(mode="json"))


def _at_points(document: Document, points: Sequence[Point], base: Path) -> tuple[Experiment, ...]:
    """The experiment of each sweep point. Raises: SpecError with the problems of all of them."""
    experiments: list[Experiment] = []
    problems: dict[str, str] = {}
    for point in points:
        try:
            experiments.append(_at_point(document, point, base))
        except SpecError as e:
            first = ", ".join(f"{key}={value}" for key, value in point.items())
            for line in e.message.splitlines():
                problems.setdefault(line, first)
    if problems:
        raise SpecError("\n".join(f"{line} (in the sweep at {first})" for line, first in problems.items()))
    return tuple(experiments)


def _at_point(document: Document, point: Point, base: Path) -> Experiment:
    data, said = copy.deepcopy(document.data), dict(document.said)
    del data["sweep"]
    for dotted, value in point.items():
        key = tuple(dotted.split("."))
        said[key] = next(
            document.where(("sweep", kind, dotted)) for kind in document.data["sweep"] if kind != "parallel"
        )
        _set(data, key, value, said=said[key])
    given = dataclasses.replace(document, data=data, said=said)
    _make_store_absolute(given, base)
    return validate(Experiment, given)


def _set(data: dict[str, Any], key: tuple[str, ...], value: Any, *, said: str) -> None:
    """Set a dotted key, making the sections on its way. Raises: SpecError when a value is in the way."""
    for depth, part in enumerate(key[:-1]):
        if data.get(part) is None:
            data[part] = {}
        data = data[part]
        if not isinstance(data, dict):
            raise SpecError(f"{said}: '{'.'.join(key[: depth + 1])}' is a value, not a section")
    data[key[-1]] = value


def _make_store_absolute(document: Document, base: Path) -> None:
    """Make data.store absolute, in place; what is not a path is left for the validation to name."""
    section = document.data.get("data")
    if isinstance(section, dict) and isinstance(section.get("store"), str):
        where = document.where(("data", "store"))
        section["store"] = str(base / _expand(section["store"], where))


def _expand(text: str, where: str) -> str:
    expanded = os.path.expanduser(os.path.expandvars(text))
    if missing := re.search(r"\$\{?(\w+)\}?", expanded):
        raise SpecError(
            f"{where}: data.store is {text!r}: the environment has no variable {missing[1]}",
            hint=f"export {missing[1]}=…",
        )
    return expanded
