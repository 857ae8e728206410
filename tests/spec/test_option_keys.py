"""A job's hints name keys of its spec, whatever the command's would name."""

from pathlib import Path

import pytest

import sedd
from sedd.errors import DataError
from sedd.spec.option_keys import WORDED, as_keys, hints_name_keys
from sedd.spec.tasks import TASKS

SOURCE = "".join(
    path.read_text(encoding="utf-8")
    for path in Path(sedd.__file__).parent.rglob("*.py")
    if path.name != "option_keys.py"
)


@pytest.mark.parametrize(("task", "text"), [(task, text) for task, of in WORDED.items() for text in of])
def test_what_is_reworded_is_a_text_of_some_hint(task: str, text: str) -> None:
    """Else the hint has been written anew, and jobs tell of options again."""
    assert task in TASKS
    assert text in SOURCE
    assert "--" not in (as_keys(text, task) or "--")


@pytest.mark.parametrize(
    ("task", "hint", "expected"),
    [
        ("score", "with --offset 23 every row fits", "with score.offset 23 every row fits"),
        ("data", "a number? --label-number heat", "a number? build.label_numbers heat"),
        ("data", "look at --label-numbers-of-old", "look at --label-numbers-of-old"),
        ("train", "build the store again, with --force", "build the store again, with --force"),
        (
            "sample",
            "the network is named first; proteins are an option's value, as --fasta",
            "sample.network names one of these",
        ),
        ("data", None, None),
    ],
)
def test_a_hint_names_the_keys_of_a_tasks_spec(task: str, hint: str | None, expected: str | None) -> None:
    with pytest.raises(DataError) as caught, hints_name_keys(task):
        raise DataError("m.csv:2", hint=hint)
    assert caught.value.hint == expected
