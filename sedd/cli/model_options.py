"""Options of a command out of a spec's section: each field is an option once, its docstring the help."""

import functools
import inspect
import re
import types
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

import typer
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from sedd.cli.conditions import parse_condition
from sedd.complaints import parse_problem
from sedd.errors import UsageError
from sedd.yaml import StrictModel, described_fields

Model = TypeVar("Model", bound=StrictModel)
_TYPES = (bool, *(kind for one in (int, float, str, Path) for kind in (one, one | None)))

_METAVARS = {int: "N", float: "NUMBER", Path: "PATH", str: "TEXT"}
"""Short, so that names and help have room at 80 columns."""


def with_options_of(
    model: type[StrictModel],
    *,
    names: Mapping[str, tuple[str, ...]] = types.MappingProxyType({}),
    settings: Mapping[str, Mapping[str, Any]] = types.MappingProxyType({}),
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Replace a command's parameter `given` by options for the fields of a model; it gets what was typed, by field.

    The fields of a section within the model are options of their own. `names` are an option's names where they are
    not `--field-name`, `settings` what typer should know of one besides. A field of many values is an option that may
    be repeated, named in the singular. What is neither a number nor text is text here, for the command to read.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        fields = dict(_flat(model))
        signature = inspect.signature(command)
        flags = {name: _flag(name, field) for name, (field, _) in fields.items()}
        added = {
            name: _option(name, field, within, names.get(name, ()), settings.get(name, {}))
            for name, (field, within) in fields.items()
        }
        for parameter in added.values():  # a docstring names fields, a help the options
            option = get_args(parameter.annotation)[1]
            option.help = re.sub(r"`(\w+)`", lambda found: flags.get(found[1], found[0]), option.help)
        parameters = [
            replaced
            for parameter in signature.parameters.values()
            for replaced in (added.values() if parameter.name == "given" else [parameter])
        ]

        @functools.wraps(command)
        def called(**values: Any) -> None:
            given = {name: values.pop(name) for name in fields}
            given |= {name: parse_condition(given[name]) for name in given if _is_mapping(fields[name][0])}
            command(given={name: value for name, value in given.items() if value is not None}, **values)

        called.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined] # typer reads it
        called.__annotations__ = {p.name: p.annotation for p in parameters}
        return called

    return decorate


def validated(model: type[Model], given: Mapping[str, Any]) -> Model:
    """The model that was typed as options. Raises: UsageError, which names an option."""
    sections = {
        name: section
        for name, field in model.model_fields.items()
        if (section := _section(field)) is not None
    }
    nested = {
        name: {inner: given[inner] for inner in section.model_fields if inner in given}
        for name, section in sections.items()
    }
    mains = {
        name: next(inner for inner, field in section.model_fields.items() if field.is_required())
        for name, section in sections.items()
    }
    for name, typed in nested.items():
        if typed and mains[name] not in typed:
            raise UsageError(
                f"{_dashed(next(iter(typed)))} belongs to {_dashed(mains[name])}, which is missing",
                hint=_main_hint(sections[name], mains[name]),
            )
    inside = {inner for section in nested.values() for inner in section}
    data = {name: value for name, value in given.items() if name not in inside}
    data |= {name: section for name, section in nested.items() if section}
    try:
        return model.model_validate(data)
    except ValidationError as e:
        first = e.errors()[0]
        if first["type"] == "value_error":  # a validator of ours, whose text begins with the field
            what = _as_option(first["msg"].removeprefix("Value error, "), mains)
            for name, main in mains.items():
                what = re.sub(rf"\b{name}\b", _dashed(main), what)
            fields = {name: _dashed(name) for name in model.model_fields}
            raise UsageError(re.sub(r"[a-z]+(_[a-z]+)+", lambda m: fields.get(m[0], m[0]), what)) from e
        problem = parse_problem(first, model, data, lambda key: "")
        raise UsageError(_as_option(problem.what, mains), hint=problem.hint) from e


def _main_hint(section: type[StrictModel], main: str) -> str:
    """What the option that a section cannot do without takes."""
    text = " ".join((described_fields(section)[main].description or "").split())
    return f"{_dashed(main)}: {text}"


def _as_option(what: str, sections: Mapping[str, str]) -> str:
    """`redesign.max_mutations is 0; …` as `--max-mutations is 0; …`, and a whole section as its first option."""
    for section, main in sections.items():
        if what.startswith(f"{section} "):
            what = main + what.removeprefix(section)
        what = what.removeprefix(f"{section}.").replace(f"'{section}.", "'")
    first, space, rest = what.partition(" ")
    return f"{_dashed(re.sub(r's?[.][0-9]+$', '', first.strip(chr(39))))}{space}{rest}"


def _dashed(name: str) -> str:
    return "--" + name.replace("_", "-")


def _flat(model: type[StrictModel]) -> Iterator[tuple[str, tuple[FieldInfo, bool]]]:
    """Every field, and whether it stands within a section; the model's own come before those that it inherits."""
    for name, field in sorted(
        described_fields(model).items(), key=lambda item: item[0] not in model.__annotations__
    ):
        section = _section(field)
        if section is None:
            yield name, (field, False)
        else:
            yield from ((inner, (one, True)) for inner, one in described_fields(section).items())


def _section(field: FieldInfo) -> type[StrictModel] | None:
    parts = get_args(field.annotation) or (field.annotation,)
    return next((part for part in parts if isinstance(part, type) and issubclass(part, StrictModel)), None)


def _option(
    name: str, field: FieldInfo, within: bool, names: tuple[str, ...], settings: Mapping[str, Any]
) -> inspect.Parameter:
    """A command's parameter for a field; of one within a section, which may be absent, None if it is not typed."""
    kind: Any = field.annotation
    text = " ".join((field.description or "").split())
    default, flag = field.default, _flag(name, field)
    if is_list := _is_list(field):
        kind, default = _plain(get_args(kind)[0]), list(default)
    if get_origin(kind) is Literal:
        kind, text = str, f"{text} ({', '.join(get_args(kind))})"
    if is_list:
        kind = list[kind]
    elif _is_mapping(field):
        kind, default, settings = list[str], [], {"metavar": "FIELD=VALUE", **settings}
    elif kind not in _TYPES:
        kind = str if field.default is not None and not within else str | None
    if metavar := next((text for one, text in _METAVARS.items() if kind in (one, one | None)), None):
        settings = {"metavar": metavar, **settings}
    if within and get_origin(kind) not in (Union, types.UnionType):
        kind = kind | None
    names = names or (() if default is True else (flag,))  # typer's own: --name/--no-name
    if within and field.default and not field.is_required():
        text += f" Default: {field.default}."
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=None if within or field.is_required() else default,
        annotation=Annotated[kind, typer.Option(*names, help=text, **{**_limits(field), **settings})],
    )


def _flag(name: str, field: FieldInfo) -> str:
    """The option of a field that is given no other name: of one of many values in the singular."""
    return _dashed(name.removesuffix("s") if _is_list(field) else name)


def _is_list(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is tuple and get_args(field.annotation)[-1] is Ellipsis


def _is_mapping(field: FieldInfo) -> bool:
    return get_origin(field.annotation) is dict


def _plain(kind: Any) -> Any:
    """A type without its limits."""
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _limits(field: FieldInfo) -> dict[str, Any]:
    """The least and the greatest number, as typer takes them."""
    found: dict[str, Any] = {}
    for limit in field.metadata:
        if hasattr(limit, "ge"):
            found["min"] = limit.ge
        if hasattr(limit, "le"):
            found["max"] = limit.le
        if isinstance(getattr(limit, "lt", None), int):
            found["max"] = limit.lt - 1
    return found
