"""Whatever is wrong with a field, the message is in our words and not in those of pydantic, which speak of Python."""

import datetime as dt
import json
import re
from collections.abc import Iterator
from typing import Annotated, Any, get_args, get_origin

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from sedd.cluster.profile import LocalProfile, SlurmProfile
from sedd.complaints import inner_models, what_is_expected
from sedd.config.settings import UserConfig
from sedd.errors import SpecError
from sedd.spec.finetune import InitSpec
from sedd.spec.inference import EmbedSpec, EvaluateSpec, SampleSpec, ScoreSpec
from sedd.spec.load import FILES
from sedd.spec.plan import PlanSpec
from sedd.spec.task import Name
from sedd.yaml import Document, StrictModel, described_fields, parse_document, validate

WRONG = (None, True, "x", -1, 10**30, [], [[]], [1, 2, 3], {1: 2}, dt.date(2020, 1, 1))
PYDANTIC = re.compile(
    r"[Ii]nput|\bshould\b|Value error|Assertion|instance|[dD]ict|\bstr\b|[tT]uple|datetime|Unable|None"
)


def keys(model: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in model.model_fields.items():
        yield (*above, name)
        if len(above) < 2:
            for inner in inner_models(field.annotation):
                yield from keys(inner, (*above, name))


@pytest.mark.parametrize("model", [*FILES.values(), PlanSpec, SlurmProfile], ids=lambda m: m.__name__)
def test_no_message_about_a_field_is_pydantics(model: type[BaseModel]) -> None:
    told = 0
    for key in dict.fromkeys(keys(model)):
        for wrong in WRONG:
            data: dict[str, Any] = {key[-1]: wrong}
            for name in reversed(key[:-1]):
                data = {name: data}
            try:
                validate(model, Document(name="file", data=data, lines={}))
            except SpecError as e:
                told += 1
                for line in e.message.splitlines():
                    what = re.sub(r"'[^']*'|\[.*\]", "", line).replace(".".join(key), "")
                    assert not PYDANTIC.search(what), line
    assert told > 50


def limits(annotation: Any) -> Iterator[Any]:
    """What `Annotated` adds to a type or to the types within it."""
    if get_origin(annotation) is Annotated:
        yield from annotation.__metadata__
    for within in get_args(annotation):
        yield from limits(within)


def models(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        for inner in inner_models(field.annotation):
            yield from models(inner)


def patterned(model: type[BaseModel]) -> dict[str, Any]:
    """By the pattern: every limit of a model's fields that has one."""
    fields = [field for each in models(model) for field in each.model_fields.values()]
    found = [limit for field in fields for limit in (*field.metadata, *limits(field.annotation))]
    return {limit.pattern.strip("^$"): limit for limit in found if getattr(limit, "pattern", None)}


def in_schema(part: Any) -> Iterator[str]:
    """Every pattern of a JSON Schema: of values and of keys."""
    if isinstance(part, dict):
        yield from part.get("patternProperties", ())
        yield from (each for key, each in part.items() if key == "pattern" and isinstance(each, str))
    for below in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from in_schema(below)


@pytest.mark.parametrize(
    "model", [*FILES.values(), PlanSpec, SlurmProfile, LocalProfile, UserConfig], ids=lambda m: m.__name__
)
def test_no_message_holds_a_regular_expression(model: type[BaseModel]) -> None:
    found = patterned(model)
    assert {pattern.strip("^$") for pattern in in_schema(model.model_json_schema())} == set(found)
    for pattern, limit in found.items():
        with pytest.raises(ValidationError) as caught:
            TypeAdapter(Annotated[str, limit]).validate_python("?!")
        told = what_is_expected(caught.value.errors()[0])
        assert told.startswith("must be "), told
        assert pattern not in told
        assert not re.search(r"[][{}^$\\]", told), told


def test_a_name_that_does_not_fit_is_told_what_fits() -> None:
    plan = {
        "name": "a b",
        "stages": {"x.y": {"spec": "a.yaml"}, "ok": {"spec": "a.yaml", "each": "-q", "needs": [""]}},
    }
    with pytest.raises(SpecError) as caught:
        validate(PlanSpec, parse_document(json.dumps(plan), name="p.yaml"))
    of_stage = "must be 1 to 64 ASCII letters, digits, '_' and '-', beginning with a letter or digit"
    lines = caught.value.message.splitlines()
    assert lines[:2] == [
        "p.yaml:1: name is 'a b'; it must be 1 to 64 ASCII letters, digits, '.', '_' and '-', beginning with a letter "
        "or digit",
        f"p.yaml:1: stages.x.y: this name {of_stage}",
    ]
    assert lines[2:] == [
        f"p.yaml:1: stages.ok.needs.0 is ''; it {of_stage}",  # and not that a list is no section
        f"p.yaml:1: stages.ok.each is '-q'; it {of_stage}",
    ]


@pytest.mark.parametrize(
    ("needs", "told"),
    [
        (["a", "-b"], ["needs.1 is '-b'; it must be 1 to 64 ASCII"]),
        ({"a": "later"}, ["needs.a is 'later'; it must be 'afterok', 'afterany' or 'on_failure'"]),
        (5, ["needs is 5; it must be a list: [a, b] or a section: 'key: value' lines"]),
    ],
)
def test_of_a_list_or_a_section_the_one_that_was_written_is_spoken_of(needs: object, told: list[str]) -> None:
    stage = {"spec": "a.yaml"}
    plan = {"name": "p", "stages": {"a": stage, "b": {**stage, "needs": needs, "each": "-q"}}}
    with pytest.raises(SpecError) as caught:
        validate(PlanSpec, parse_document(json.dumps(plan), name="p.yaml"))
    *lines, other = caught.value.message.splitlines()
    assert "stages.b.each" in other
    assert len(lines) == len(told)
    for line, words in zip(lines, told, strict=True):
        assert line.startswith(f"p.yaml:1: stages.b.{words}")


@pytest.mark.parametrize("text", ["a", "Z", "0", "a" * 64, "a.b_c-d"])
def test_what_the_words_allow_fits(text: str) -> None:
    assert TypeAdapter(Name).validate_python(text) == text


@pytest.mark.parametrize("text", ["", ".a", "_a", "-a", "a" * 65, "a b", "a/b", "ä", "a\n", "1²"])
def test_what_the_words_leave_out_does_not_fit(text: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Name).validate_python(text)


@pytest.mark.parametrize("kind", [EvaluateSpec, ScoreSpec, EmbedSpec, SampleSpec, InitSpec])
def test_a_field_for_a_network_says_what_it_may_name(kind: type[StrictModel]) -> None:
    said = " ".join((described_fields(kind)["network"].description or "").split())
    for word in ("run's folder", "newest run", "sweep", "lowest validation bound", "checkpoint", "exported"):
        assert word in said
