"""Spec of a plan: stages, each of them a spec of its own, and what each needs of the others."""

import dataclasses
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from sedd.complaints import Key
from sedd.errors import SpecError, UsageError
from sedd.home import expand_home
from sedd.spec.load import Change, Request, resolve_request
from sedd.spec.task import Name
from sedd.yaml import Document, Spelling, StrictModel, load_document, validate

StageName = Annotated[
    str,
    Spelling(
        r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}",
        "1 to 64 ASCII letters, digits, '_' and '-', beginning with a letter or digit",
    ),
]
Wait = Literal["afterok", "afterany", "on_failure"]
"""When a needed stage lets another start: it completed; it ended, however; it ended without completing."""
VALUE = re.compile(r"\$\{([A-Za-z0-9][A-Za-z0-9_-]*)\.([A-Za-z0-9_]+)\}")
"""`${stage.what}`; an environment variable has no dot."""


class StageSpec(StrictModel):
    """One stage: a spec, and what it needs."""

    spec: str | dict[str, Any]
    """A spec file, relative to the plan's own folder; or the spec itself, whose `name` may be left out."""
    set: dict[str, Any] = Field(default_factory=dict)
    """Fields of the spec to replace, by dotted keys: {training.steps: 1000}."""
    needs: tuple[StageName, ...] | dict[StageName, Wait] = ()
    """Stages that come first: a list (all must complete), or how to wait for each: {train: afterany}."""
    each: StageName | None = None
    """A stage of several runs, for each of which this stage has one: point i waits for point i alone."""

    @property
    def waits(self) -> dict[str, Wait]:
        """The needed stages, and how each is waited for; that of `each` is one of them."""
        needs = self.needs if isinstance(self.needs, dict) else dict.fromkeys(self.needs, "afterok")
        fed: dict[str, Wait] = {self.each: "afterok"} if self.each else {}
        return {**fed, **needs}  # type: ignore[dict-item] # mypy takes the literal for a str


class PlanSpec(StrictModel):
    """Stages that make one experiment."""

    name: Name
    """Letters, digits, `.`, `_`, `-`; what `sedd status`, `cancel` and `requeue` call it."""
    stages: dict[StageName, StageSpec] = Field(min_length=1)
    """By name, in any order."""

    @model_validator(mode="after")
    def _no_stage_needs_itself(self) -> Self:
        if own := [name for name, stage in self.stages.items() if name in stage.waits]:
            raise ValueError(f"stages.{own[0]} needs itself")
        return self


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A `${stage.what}` that stands in a stage's spec."""

    stage: str
    what: str
    where: str
    """`file:line`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSource:
    """A stage as it was written: its spec is resolved when the values of others are known."""

    name: str
    document: Document
    base: Path
    """Relative paths of the document are taken from here."""
    changes: tuple[Change, ...]
    changes_base: Path
    waits: Mapping[str, Wait]
    each: str | None

    def references(self) -> tuple[Reference, ...]:
        """Every value of another stage that it asks for, in order."""
        own = _references(_without(self.document.data, self.changes), (), self.document.where)
        replaced = (r for c in self.changes for r in _references(c.value, (), lambda _, c=c: c.origin))  # type: ignore[misc]
        return (*own, *replaced)

    def resolve(self, value_of: Callable[[str, str], str]) -> Request:
        """The runs that it asks for, with `value_of(stage, what)` in the place of each reference.

        Raises:
            SpecError: with every problem, each with its line.
        """
        document = dataclasses.replace(self.document, data=_filled(self.document.data, value_of))
        changes = [dataclasses.replace(c, value=_filled(c.value, value_of)) for c in self.changes]
        return resolve_request(document, changes, base=self.base, changes_base=self.changes_base)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanSource:
    """A plan's file, read; what is wrong with its graph is not known yet."""

    name: str
    document: Document
    stages: Mapping[str, StageSource]


def is_plan(path: Path) -> bool:
    """Whether a file is a plan rather than the spec of one job. Raises: SpecError, as `load_document`."""
    return "stages" in load_document(path).data


def load_plan(path: Path) -> PlanSource:
    """Read a plan, and the spec files that its stages name.

    Raises:
        SpecError: with every problem of the file, each with its line.
    """
    document = load_document(path)
    plan = validate(PlanSpec, document)
    stages = {name: _source(plan, name, document, path.resolve().parent) for name in plan.stages}
    return PlanSource(name=plan.name, document=document, stages=stages)


def _source(plan: PlanSpec, name: str, document: Document, folder: Path) -> StageSource:
    stage = plan.stages[name]
    if isinstance(stage.spec, str):
        where = f"{document.where(('stages', name, 'spec'))}: stages.{name}.spec"
        try:
            path = folder / expand_home(stage.spec)
        except UsageError as e:
            raise SpecError(f"{where}: {e.message}", hint=e.hint) from e
        if not path.exists():
            raise SpecError(f"{where}: {path}: no such file")
        own, base = load_document(path), path.resolve().parent
    else:
        own, base = _inline(document, ("stages", name, "spec"), default_name=f"{plan.name}-{name}"), folder
    changes = tuple(
        Change(tuple(dotted.split(".")), value, document.where(("stages", name, "set", dotted)))
        for dotted, value in stage.set.items()
    )
    return StageSource(
        name=name,
        document=own,
        base=base,
        changes=changes,
        changes_base=folder,
        waits=stage.waits,
        each=stage.each,
    )


def _inline(document: Document, key: Key, *, default_name: str) -> Document:
    """The section of a document as a document of its own, with the lines of the whole file."""
    data: Any = document.data
    for part in key:
        data = data[part]
    lines = {own[len(key) :]: line for own, line in document.lines.items() if own[: len(key)] == key}
    return Document(name=document.name, data={"name": default_name, **data}, lines=lines)


def _without(data: Mapping[str, Any], changes: tuple[Change, ...]) -> dict[str, Any]:
    """The data without what the changes replace."""
    gone = {change.key for change in changes}

    def left(value: Any, key: tuple[str, ...]) -> Any:
        if not isinstance(value, dict):
            return value
        return {k: left(v, (*key, k)) for k, v in value.items() if (*key, k) not in gone}

    kept: dict[str, Any] = left(data, ())
    return kept


def _references(value: Any, key: Key, where: Callable[[Key], str]) -> Iterator[Reference]:
    if isinstance(value, str):
        for match in VALUE.finditer(value):
            yield Reference(stage=match[1], what=match[2], where=where(key))
    elif isinstance(value, dict):
        for label, child in value.items():
            yield from _references(child, (*key, label), where)
    elif isinstance(value, list):
        for number, child in enumerate(value):
            yield from _references(child, (*key, number), where)


def _filled(value: Any, value_of: Callable[[str, str], str]) -> Any:
    if isinstance(value, str):
        return VALUE.sub(lambda match: value_of(match[1], match[2]), value)
    if isinstance(value, dict):
        return {label: _filled(child, value_of) for label, child in value.items()}
    if isinstance(value, list):
        return [_filled(child, value_of) for child in value]
    return value
