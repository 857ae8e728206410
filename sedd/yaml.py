"""Read YAML strictly: every problem of a file is reported at once, with its line and a suggestion."""

import ast
import copy
import difflib
import glob
import inspect
import itertools
import os
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, TypeVar

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    GetJsonSchemaHandler,
    PlainSerializer,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError, core_schema

from sedd.complaints import (
    Key,
    Problem,
    choice_hint,
    clip,
    merge_choices,
    of_the_type_that_was_written,
    parse_problem,
    raise_problems,
    shown,
    what_is_expected,
)
from sedd.errors import HEAD_BYTES, SpecError, why_binary, why_not_utf_8, why_unreadable
from sedd.units import exact_bytes, exact_duration, parse_bytes, parse_duration_s
from sedd.yaml_tree import BOOLEAN_OR_WORD, FLOAT_WITHOUT_DOT, WORD_BOOLEANS, TreeReader, Unreadable, trap

_MOST_BYTES = 1 << 20
"""Of a file that somebody wrote; PyYAML reads a megabyte in some seconds."""
_NUMBERS = (int, float, int | None, float | None)


class StrictModel(BaseModel):
    """Base of everything that users write: frozen, no unknown fields, field docstrings in the JSON Schema."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _true_is_no_number(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        numbers = {name for name, field in cls.model_fields.items() if field.annotation in _NUMBERS}
        return {k: str(v).lower() if isinstance(v, bool) and k in numbers else v for k, v in data.items()}

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        described = handler(schema)
        properties = handler.resolve_ref_schema(described).get("properties", {})
        for name, each in described_fields(cls).items():
            if each.description and name in properties:
                properties[name].setdefault("description", each.description)
        return described


def described_fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    """A model's fields, each described by the docstring below it.

    Pydantic's own `use_attribute_docstrings` reads the source of all models as they are imported: a tenth of a second
    of every command and of every start of a job.
    """
    texts: dict[str, str] = {}
    for base in reversed(model.__mro__):
        texts |= _docstrings(base) if issubclass(base, StrictModel) else {}
    fields = {name: copy.copy(each) for name, each in model.model_fields.items()}
    for name, each in fields.items():
        each.description = each.description or texts.get(name)
    return fields


def _docstrings(model: type) -> dict[str, str]:
    """The docstrings below the fields of a model's own source."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(model)))
    except OSError:  # made without source (`create_model`)
        return {}
    assert isinstance(tree.body[0], ast.ClassDef)
    lines = tree.body[0].body
    return {
        above.target.id: inspect.cleandoc(below.value.value)
        for above, below in itertools.pairwise(lines)
        if isinstance(above, ast.AnnAssign)
        and isinstance(above.target, ast.Name)
        and isinstance(below, ast.Expr)
        and isinstance(below.value, ast.Constant)
        and isinstance(below.value.value, str)
    }


def _duration(value: object) -> object:
    if isinstance(value, str):
        return parse_duration_s(value)
    raise ValueError(f"{shown(value)} has no unit: write a duration like 90s, 15m or 24h")


def _bytes(value: object) -> object:
    if isinstance(value, str):
        return parse_bytes(value)
    raise ValueError(f"{shown(value)} has no unit: write an amount of memory like 32GiB")


Duration = Annotated[
    int, BeforeValidator(_duration, json_schema_input_type=str), PlainSerializer(exact_duration)
]
"""Seconds; written as `90s`, `24h`, `1d12h`."""
Bytes = Annotated[int, BeforeValidator(_bytes, json_schema_input_type=str), PlainSerializer(exact_bytes)]
"""Bytes; written as `32GiB`, `500MB`."""


@dataclass(frozen=True, slots=True)
class Spelling:
    """What a text may look like, for `Annotated[str, Spelling(...)]`: a field whose errors name no pattern."""

    pattern: str
    """A regular expression for the whole text; the JSON Schema has it."""
    allowed: str
    """The same in words, after "it must be"."""

    def fits(self, text: str) -> bool:
        return re.fullmatch(self.pattern, text) is not None

    def _require(self, text: str) -> str:
        if not self.fits(text):
            raise PydanticCustomError("spelling", f"String should be {self.allowed}")
        return text

    def __get_pydantic_core_schema__(self, source: Any, handler: Any) -> core_schema.CoreSchema:
        return core_schema.no_info_after_validator_function(self._require, handler(source))

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> dict[str, Any]:
        return {**handler(schema), "pattern": f"^{self.pattern}$"}


@dataclass(frozen=True, slots=True)
class Document:
    """A parsed YAML mapping and where each of its keys stands."""

    name: str
    data: dict[str, Any]
    lines: Mapping[Key, int]
    origins: Mapping[Key, str] = field(default_factory=dict)
    """Where the keys that do not come from the file were given, such as `--set seed=1`."""
    problems: tuple[Problem, ...] = ()
    """Traps and repeated keys; `validate` tells them with its own."""

    def where(self, key: Key) -> str:
        """`file:line` of a key, or of the nearest enclosing key that is given; or how else it was given."""
        for length in range(len(key), 0, -1):
            nearest = key[:length]
            if place := self.origins.get(nearest):
                return place
            if line := self.lines.get(nearest):
                return f"{self.name}:{line}"
            if below := [place for given, place in self.origins.items() if given[:length] == nearest]:
                return below[0]
        return self.name


def load_document(path: Path, *, may_be_empty: bool = False) -> Document:
    """Read a YAML mapping.

    Raises:
        SpecError: no such file, not YAML, or not a mapping. Traps and repeated keys: `validate` raises. A file without
            anything but comments, too, unless it `may_be_empty`: it is then a mapping without keys.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
    except FileNotFoundError as e:
        if path.is_symlink():
            raise SpecError(f"{path}: a link to {os.readlink(path)}, which does not exist") from e
        near = _near(path)
        raise SpecError(f"{path}: no such file", hint=f"did you mean '{near}'?" if near else None) from e
    except OSError as e:
        if isinstance(e, IsADirectoryError) and _is_store(path):
            raise SpecError(
                f"{path}: this is a token store, not a spec",
                hint=f"a training's spec names it, data: {{store: {path}}}; `sedd data info` describes it",
            ) from e
        what, hint = why_unreadable(path, e)
        raise SpecError(f"{path}: {what}", hint=hint) from e
    if found := why_binary(path, content[:HEAD_BYTES]):
        raise SpecError(
            f"{path}: is {found[0]}", hint=found[1] or "is this the right file? It should be YAML"
        )
    _refuse_fasta(content[:HEAD_BYTES].decode("utf-8", "replace"), str(path))
    if len(content) > _MOST_BYTES:
        raise SpecError(f"{path}: larger than {_MOST_BYTES >> 20} MiB: is this the right file?")
    if found := why_not_utf_8(path, content):
        raise SpecError(f"{path}: is {found[0]}", hint=found[1])
    text = content.decode("utf-8-sig")
    return parse_document(text, name=str(path), may_be_empty=may_be_empty)


def _is_store(folder: Path) -> bool:
    return os.path.isfile(folder / "manifest.json") and os.path.isdir(folder / "train")


_FASTA = re.compile(r"\s*>[^\n]*\n[A-Za-z*-]+\s")
"""A header and a line of letters."""


def _refuse_fasta(text: str, name: str) -> None:
    if _FASTA.match(text):
        raise SpecError(
            f"{name}: this is a FASTA file, not YAML",
            hint="`sedd data build` makes a token store of it, which a training's spec names: data: {store: STORE}",
        )


def parse_document(text: str, *, name: str, may_be_empty: bool = False) -> Document:
    """Parse YAML text; `name` stands for the file in messages. Raises: SpecError, as `load_document`."""
    _refuse_fasta(text, name)
    root = _compose(text, name)
    is_empty = root is None or (
        isinstance(root, yaml.ScalarNode) and not root.value
    )  # `---` alone is a scalar
    if is_empty and may_be_empty:
        return Document(name=name, data={}, lines={})
    if not isinstance(root, yaml.MappingNode):
        raise SpecError(f"{name}: {'empty' if is_empty else 'expected a section'}: write 'key: value' lines")
    reader = TreeReader(name)
    data = reader.read(root, ())
    return Document(name=name, data=data, lines=reader.lines, problems=tuple(reader.problems))


def dump_document(data: Mapping[str, Any]) -> str:
    """YAML that `parse_document` reads back equal, and other readers alike: text that looks like a trap is quoted."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def parse_override(text: str) -> tuple[tuple[str, ...], Any]:
    """`training.learning_rate=3e-4` as (("training", "learning_rate"), 0.0003); here 3e-4 is a number.

    A word such as `off` is a text, which a field that takes a boolean reads as one.

    Raises:
        SpecError: no `=`, or a value that is not YAML.
    """
    key, equals, value = text.partition("=")
    parts = tuple(part.strip() for part in key.split("."))
    if not equals or not all(parts):
        raise SpecError(
            f"--set {clip(text)}: expected key=value", hint="for example --set training.steps=1000"
        )
    if FLOAT_WITHOUT_DOT.fullmatch(value.strip()):
        return parts, float(value)
    if value.strip().lower() in WORD_BOOLEANS:
        return parts, value.strip()
    name = f"--set {clip(text)}"
    root = _compose(value, name)
    reader = TreeReader(name)
    built = None if root is None else reader.read(root, ())
    if reader.problems:
        raise SpecError("\n".join(f"{name}: {problem.what}" for problem in reader.problems))
    return parts, built


Model = TypeVar("Model", bound=BaseModel)


def validate(model: type[Model], document: Document, *, context: object = None) -> Model:
    """Build `model` from a document. Raises: SpecError with every problem, each with line and suggestion.

    `context` is what validators find in `info.context`.
    """
    try:
        built = model.model_validate(document.data, context=context)
    except ValidationError as e:
        own = [error for error in e.errors() if not _is_told_elsewhere(error)]
        own = of_the_type_that_was_written(own, document.data)
        problems = [parse_problem(error, model, document.data, document.where) for error in own]
        raise_problems([*_advised(document.problems, e.errors()), *merge_choices(problems)])
        raise AssertionError("a ValidationError without errors") from e
    raise_problems(document.problems)
    return built


def _advised(problems: Sequence[Problem], errors: Sequence[Any]) -> list[Problem]:
    """The problems; a word such as `off` in a field that takes no boolean is told what that field takes.

    Those of values whose field there is not are left out: that is told of the field.
    """
    found: dict[Problem, list[Any]] = {}
    nowhere: set[Problem] = set()
    for error in errors:
        value = error.get("input")
        if not isinstance(value, Unreadable) or not value.problem:
            continue
        if error["type"] == "extra_forbidden":
            nowhere.add(value.problem)
        elif value.text.lower() in WORD_BOOLEANS:
            found.setdefault(value.problem, []).append(error)
    return [_of_its_field(problem, found.get(problem, [])) for problem in problems if problem not in nowhere]


def _of_its_field(problem: Problem, errors: Sequence[Any]) -> Problem:
    if not errors or any(error["type"] in ("bool_type", "value_error") for error in errors):
        return problem
    wanted = dict.fromkeys(what_is_expected(error).removeprefix("must be ") for error in errors)
    what, expected = problem.what.removesuffix(BOOLEAN_OR_WORD), " or ".join(wanted)
    return Problem(
        problem.where, f"{what}; it must be {expected}", choice_hint(errors[0]["input"].text, expected)
    )


def _is_told_elsewhere(error: Any) -> bool:
    """Whether a value is a trap, or a list that is too short only because its elements have errors of their own."""
    value = error.get("input")
    if error["type"] == "too_short":
        return isinstance(value, list) and len(value) >= error["ctx"]["min_length"]
    return isinstance(value, Unreadable) and error["type"] != "extra_forbidden"


def _compose(text: str, name: str) -> yaml.Node | None:
    try:
        root: yaml.Node | None = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as e:
        mark = getattr(e, "problem_mark", None)
        at = mark.line + 1 if mark else _line_at(text, getattr(e, "position", None))
        line = f":{at}" if at and not name.startswith("--set") else ""
        reason = getattr(e, "problem", None) or getattr(e, "reason", None) or e
        raise SpecError(f"{name}{line}: not valid YAML: {reason}") from e
    except RecursionError as e:
        raise SpecError(f"{name}: nested too deeply") from e
    return root


def _line_at(text: str, position: object) -> int | None:
    """The line of a character that may not be in a YAML file."""
    return text.count("\n", 0, position) + 1 if isinstance(position, int) else None


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc] # libyaml's, six times as fast
    def represent_str(self, text: str) -> yaml.ScalarNode:
        node = self.represent_scalar("tag:yaml.org,2002:str", text, style="'" if trap(text) else None)
        assert isinstance(node, yaml.ScalarNode)
        return node


_Dumper.add_representer(str, _Dumper.represent_str)


def _near(missing: Path) -> Path | None:
    """The file that was meant, perhaps: of nearly this name, or of this name one folder below."""
    if near := difflib.get_close_matches(missing.name, _names_beside(missing), n=1):
        return missing.parent / near[0]
    below = sorted(missing.parent.glob(f"*/{glob.escape(missing.stem)}.yaml"))
    return below[0] if len(below) == 1 else None


def _names_beside(path: Path) -> list[str]:
    try:
        return [p.name for p in path.parent.iterdir()]
    except OSError:
        return []
