"""Whatever is wrong with a field, the message is in our words and not in those of pydantic, which speak of Python."""

import datetime as dt
import re
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from sedd.cluster.profile import SlurmProfile
from sedd.complaints import inner_models
from sedd.errors import SpecError
from sedd.spec.load import FILES
from sedd.spec.plan import PlanSpec
from sedd.yaml import Document, validate

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
