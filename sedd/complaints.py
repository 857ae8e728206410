"""Turn pydantic's errors into messages about the user's file: where, what, and what was probably meant."""

import datetime as dt
import difflib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel

from sedd.errors import SpecError, did_you_mean

Key = tuple[str | int, ...]
_MOST_LISTED = 120
"""Letters of a section's fields, where none is like what was written."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong."""

    where: str
    what: str
    hint: str | None = None

    def __str__(self) -> str:
        return f"{self.where}: {self.what}" + (f" ({self.hint})" if self.hint else "")


def raise_problems(problems: Iterable[Problem]) -> None:
    """Raise one SpecError that lists all problems, each once, by line, or return when there are none."""
    if lines := in_line_order(map(str, problems)):
        raise SpecError("\n".join(lines))


def in_line_order(problems: Iterable[str]) -> list[str]:
    """Texts that begin with `file:line: `, each once, in the order of the lines; those of no line come last.

    Files stay in the order in which they are first named.
    """
    texts = list(dict.fromkeys(problems))
    places = {text: found for text in texts if (found := _PLACE.match(text))}
    files = list(dict.fromkeys(found["file"] for found in places.values()))
    return sorted(texts, key=lambda t: _place_of(places[t], files) if t in places else (len(files), 0))


_PLACE = re.compile(r"(?!--)(?P<file>.+?):(?P<line>\d+): ")
"""Of a value that an option has given, such as --set, no line is known."""


def _place_of(found: re.Match[str], files: list[str]) -> tuple[int, int]:
    return files.index(found["file"]), int(found["line"])


def merge_choices(problems: Iterable[Problem]) -> list[Problem]:
    """Of a field that takes one of several types each refuses what it does not take: one problem of them all."""
    merged: dict[tuple[str, str], Problem] = {}
    for problem in problems:
        seen, _, expected = problem.what.partition(_WANTED)
        earlier = merged.get((problem.where, seen))
        if earlier and expected:
            problem = Problem(problem.where, f"{earlier.what} or {expected}", earlier.hint or problem.hint)
        merged[problem.where, seen] = problem
    return list(merged.values())


_WANTED = "; it must be "


def of_the_type_that_was_written(errors: Iterable[Any], data: object) -> list[Any]:
    """Of a field that takes a list or a section, the errors inside what was written, not that it is not the other."""
    errors = list(errors)
    inside = {error["loc"][:depth] for error in errors for depth in range(1, len(error["loc"]))}

    def is_kind(loc: Key) -> bool:
        return _key_in(data, loc, missing=False) == _key_in(data, loc[:-1], missing=False)

    entered = {loc[:-1] for loc in inside if is_kind(loc)}
    return [e for e in errors if not (e["loc"][:-1] in entered and is_kind(e["loc"]))]


def parse_problem(error: Any, model: type[BaseModel], data: object, where: Callable[[Key], str]) -> Problem:
    """One of pydantic's errors on `data` as a Problem; `where` says in which line a key stands."""
    kind, seen = error["type"], error.get("input")
    key = _key_in(data, error["loc"], missing=kind == "missing")
    dotted = clip(".".join(map(str, key)))
    match kind:
        case "extra_forbidden":
            return Problem(where(key), f"unknown field '{dotted}'", _suggest(model, error["loc"], dotted))
        case "missing":
            return Problem(where(key), f"'{dotted}' is missing")
        case "union_tag_not_found":
            tag = error["ctx"]["discriminator"].strip("'")
            return Problem(where(key), f"'{dotted}.{tag}' is missing")
        case "union_tag_invalid":
            tag, expected = (
                error["ctx"]["discriminator"].strip("'"),
                f"one of {error['ctx']['expected_tags']}",
            )
            return not_a_choice(where((*key, tag)), f"{dotted}.{tag}", error["ctx"]["tag"], expected)
        case "literal_error" | "enum":
            return not_a_choice(where(key), dotted, seen, error["ctx"]["expected"])
    if kind == "value_error":
        what = error["msg"].removeprefix("Value error, ")
        places = [where(named) for named in _named_keys(what, key, data)] or [where(key)]
        # Best one that an option has changed.
        at = next((place for place in places if place.startswith("--")), places[0])
        return Problem(at, f"{dotted}: {what}" if dotted else what)
    if error["loc"][-1:] == ("[key]",):
        return Problem(where(key), f"{dotted}: this name {what_is_expected(error)}")
    return Problem(where(key), f"{dotted} is {shown(seen)}; it {what_is_expected(error)}", share_hint(error))


def share_hint(error: Any) -> str | None:
    """For a share, of at most 1, that was written in percent: the share."""
    if error["type"] not in ("less_than", "less_than_equal"):
        return None
    context = error["ctx"]
    limit = context.get("le", context.get("lt"))
    try:
        percent = float(error["input"])
    except (TypeError, ValueError):
        return None
    is_share = isinstance(limit, float) and limit <= 1 and 2 <= percent <= 100 * limit
    return f"did you mean {percent / 100:g}?" if is_share else None


def _named_keys(what: str, section: Key, data: Any) -> list[Key]:
    """The keys below a section that a text about it names, dotted or not, and that are given, in their order.

    A name without dots may stand for one beside the name before it: `training.steps / warmup`. The keys of a sweep are
    dotted themselves, and one section deeper.
    """
    for part in section:
        data = data[part]
    if not isinstance(data, dict):
        return []
    keys: list[Key] = []
    inside = [(name,) for name, value in data.items() if isinstance(value, dict)]
    before: Key = ()
    for name in _NAME.findall(what):
        parts: Key = tuple(name.split("."))
        tried = (parts, (*before, *parts), (name,), *((*k, *p) for k in inside for p in (parts, (name,))))
        found = next((key for key in tried if _key_in(data, key, missing=False) == key), None)
        keys += [(*section, *found)] if found else []
        before = parts[:-1] or before
    return keys


_NAME = re.compile(r"[a-z][a-z0-9_]*(?:[.][a-z][a-z0-9_]*)*")


def what_is_expected(error: Any) -> str:
    """What one of pydantic's errors asks of a value: `must be a whole number`."""
    if error["type"] in ("literal_error", "enum"):
        return f"must be {error['ctx']['expected']}"
    expected = _EXPECTED.get(error["type"], "").format(**error.get("ctx", {}))
    return expected or re.sub(r"^(Input|String|Value) should", "must", error["msg"])


_EXPECTED = {
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "int_from_float": "must be a whole number",
    "int_parsing_size": "must be a whole number of fewer digits",
    "float_type": "must be a number",
    "float_parsing": "must be a number",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "string_type": "must be text: put it in quotes",
    "path_type": "must be a path: put it in quotes",
    "tuple_type": "must be a list: [a, b]",
    "list_type": "must be a list: [a, b]",
    "dict_type": "must be a section: 'key: value' lines",
    "model_type": "must be a section: 'key: value' lines",
    "model_attributes_type": "must be a section: 'key: value' lines",
    "invalid_key": "must have keys that are text: put them in quotes",
    "too_short": "must have {min_length} or more elements",
    "too_long": "must have {max_length} elements or fewer",
}
"""In place of pydantic's own words, which speak of Python; with the context of its errors."""


def clip(text: str, longest: int = 80) -> str:
    """A text for a message of one line: without the middle, if it is longer than that."""
    if len(text) <= longest:
        return text
    half = (longest - 1) // 2
    return f"{text[:half]}…{text[-half:]}"


def shown(value: object) -> str:
    """A value as its file has it, more or less."""
    if value is None:
        return "empty"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dt.date):
        return value.isoformat()
    return "a section" if isinstance(value, dict) else clip(repr(value))


def not_a_choice(where: str, dotted: str, seen: object, expected: str) -> Problem:
    return Problem(where, f"{dotted} is {shown(seen)}; it must be {expected}", choice_hint(seen, expected))


def choice_hint(seen: object, expected: str) -> str | None:
    """Which of the quoted words in `expected` was probably meant: for `off` the one that means it."""
    choices, text = re.findall(r"'([^']*)'", expected), clip(str(seen))
    meant = [choice for choice in choices if choice in _NOT_AT_ALL]
    return f"did you mean '{meant[0]}'?" if meant and text.lower() in _NO else did_you_mean(text, choices)


_NO = ("off", "no", "n", "false")
_NOT_AT_ALL = ("disabled", "none")


def _key_in(data: Any, loc: Key, *, missing: bool) -> Key:
    """The keys of the file in one of pydantic's locations, which also name the kind of a union."""
    key: list[str | int] = []
    for depth, part in enumerate(loc):
        try:
            data = data[part]
        except (KeyError, IndexError, TypeError):
            if not (missing and depth == len(loc) - 1):
                continue
        key.append(part)
    return tuple(key)


def _suggest(model: type[BaseModel], loc: Key, dotted: str) -> str | None:
    """What an unknown field was meant to be: the same name elsewhere, then a similar one here or elsewhere."""
    wrong = clip(str(loc[-1]))
    everywhere = list(dict.fromkeys(_all_fields(model)))
    if dotted in everywhere:
        kinds = [
            m.model_fields["kind"].default for m in _models_at(model, loc[:-2]) if wrong in m.model_fields
        ]
        return f"only kind {' and '.join(kinds)} has it"
    here = {field for owner in _models_at(model, loc[:-1]) for field in owner.model_fields}
    wrong = _OTHER_NAMES.get(wrong, wrong)
    same = [field for field in everywhere if field.rsplit(".", 1)[-1] == wrong]
    if same or wrong in here:
        return f"did you mean '{wrong if wrong in here else same[0]}'?"
    near = difflib.get_close_matches(wrong, here, n=1, cutoff=0.6)
    near = near or [
        field
        for field in everywhere
        if difflib.get_close_matches(wrong, [field.rsplit(".", 1)[-1]], cutoff=0.8)
    ]
    return f"did you mean '{near[0]}'?" if near else _listed(here) if len(loc) > 1 else None


_OTHER_NAMES = {
    **dict.fromkeys(("lr", "max_lr", "peak_lr"), "learning_rate"),
    **dict.fromkeys(("max_steps", "num_steps", "n_steps", "iterations"), "steps"),
    **dict.fromkeys(("hidden_size", "hidden_dim", "d_model", "width", "dim"), "hidden"),
    **dict.fromkeys(("layers", "n_layers", "num_layers", "depth"), "blocks"),
    **dict.fromkeys(("n_heads", "num_heads", "attention_heads"), "heads"),
    **dict.fromkeys(("batch_size", "batch", "tokens_per_step"), "residues_per_step"),
    **dict.fromkeys(("warmup", "num_warmup_steps"), "warmup_steps"),
    **dict.fromkeys(("time", "time_limit", "timeout"), "walltime"),
    **dict.fromkeys(("gpus", "num_gpus", "n_gpus"), "gpus_per_node"),
    **dict.fromkeys(("num_nodes", "n_nodes"), "nodes"),
    "wd": "weight_decay",
}
"""What other trainers call a field."""


def _listed(fields: Iterable[str]) -> str | None:
    """A section's fields, where they are few enough to be read."""
    text = ", ".join(sorted(fields))
    return f"its section has {text}" if text and len(text) <= _MOST_LISTED else None


def _models_at(model: type[BaseModel], loc: Key) -> Iterator[type[BaseModel]]:
    """The models whose fields may stand at a location; several where a union's kind is not in it."""
    if not loc:
        yield model
        return
    field = model.model_fields.get(str(loc[0]))
    inner = list(inner_models(field.annotation)) if field else []
    kinds = [each for each in inner if len(loc) > 1 and _kind(each) == loc[1]]
    for each in kinds or inner:
        yield from _models_at(each, loc[2:] if kinds else loc[1:])


def _kind(model: type[BaseModel]) -> object:
    field = model.model_fields.get("kind")
    return field.default if field else None


def inner_models(annotation: Any) -> Iterator[type[BaseModel]]:
    """The models in a field's type: none for a value, one for a section, several for a union of kinds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from inner_models(argument)


def _all_fields(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    for name, field in model.model_fields.items():
        yield prefix + name
        for inner in inner_models(field.annotation):
            yield from _all_fields(inner, f"{prefix}{name}.")
