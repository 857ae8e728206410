"""Values on one line: what a reader of YAML makes of them again."""

import math
from typing import Any

import pytest
import yaml

from sedd.yaml import parse_document
from sedd.yaml_text import assignments, yaml_text

VALUES = [
    None, True, False, 0, -3, 10**20, 1.0, 3e-4, 1e-5, 1.5e-7, 1e16, 1e300, 0.1 + 0.2,
    "none", "log uniform", "jobs/a b.yaml", "a, b", "x: y", "off", "Null", "true", "1e-3", "24:00:00", "010",
    "12", "0x1f", "", " a", "it's", "[a", "é", "~", "2020-01-01", "-", "a #b", "line\nbreak", "48h",
    [], {}, [16, 512], [[1, "a"], None], {"kind": "geometric", "sigma_max": 20.0}, [{"from_step": 10, "steps": 5}],
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_what_is_written_is_read_back_equal_and_of_the_same_type(value: Any) -> None:
    text = yaml_text(value)
    assert "\n" not in text
    for back in (yaml.safe_load(text), parse_document(f"value: {text}", name="f").data["value"]):
        assert (back, type(back)) == (value, type(value))
    assert yaml.safe_load(yaml_text([value, {"a": value}])) == [value, {"a": value}]


def test_numbers_that_are_none_are_read_back_too() -> None:
    assert math.isnan(yaml.safe_load(yaml_text(math.nan)))
    assert yaml.safe_load(yaml_text([math.inf, -math.inf])) == [math.inf, -math.inf]


def test_a_point_in_words() -> None:
    point = {"training.compile": True, "training.learning_rate": 3e-4, "diffusion.noise.kind": "cosine"}
    assert assignments(point) == (
        "training.compile=true, training.learning_rate=0.0003, diffusion.noise.kind=cosine"
    )


@pytest.mark.parametrize("text", ["48h", "1d12h", "32GiB", "log uniform", "jobs/a.yaml"])
def test_words_and_quantities_stand_without_quotes(text: str) -> None:
    assert yaml_text(text) == text
