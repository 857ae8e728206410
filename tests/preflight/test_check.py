"""Claims about every check there is; a new one is covered without an edit here."""

import dataclasses
import sys
import typing
from pathlib import Path
from typing import Any

import pytest

from sedd.preflight import checks as folder
from sedd.preflight.check import Check, all_checks, checks_of
from sedd.preflight.context import Side
from sedd.preflight.finding import Status, Verdict
from sedd.preflight.show.readme import README, renewed
from sedd.spec.build import DataTask
from sedd.spec.tasks import TASKS

CHECKS = list(all_checks().items())
each_check = pytest.mark.parametrize(
    "check", [check for _, check in CHECKS], ids=[name for name, _ in CHECKS]
)


def test_every_file_of_the_folder_is_a_check():
    files = {path.stem for path in Path(folder.__path__[0]).glob("*.py")} - {"__init__"}
    assert files == set(all_checks())


def test_both_sides_have_checks():
    reached = {task: {side: set(checks_of(side, task)) for side in Side} for task in TASKS.values()}
    assert all(names for sides in reached.values() for names in sides.values())
    assert set().union(*(names for sides in reached.values() for names in sides.values())) == set(
        all_checks()
    )


def test_a_data_task_is_not_asked_about_networks_and_gpus():
    asked = set(checks_of(Side.NODE, DataTask))
    assert asked & {"known_answer", "torch_device", "gpu_memory", "data_store", "wandb_login"} == set()
    assert {"build_inputs", "run_folder", "frozen_code"} <= asked


@each_check
def test_the_check_gathers_the_facts_that_it_judges(check: Check[Any]):
    file = sys.modules[type(check.passing).__module__]
    gathered = typing.get_type_hints(file.gather)["return"]
    assert file.Facts in (gathered, *typing.get_args(gathered))
    assert typing.get_type_hints(file.judge) == {"facts": file.Facts, "return": Verdict}
    assert type(check.passing) is type(check.failing) is file.Facts


@each_check
def test_passing_sheet_is_ok(check: Check[Any]):
    verdict = check.judge(check.passing)
    assert verdict.status is Status.OK
    assert verdict.saw


@each_check
def test_failing_sheet_says_what_it_saw_and_what_to_do(check: Check[Any]):
    verdict = check.judge(check.failing)
    assert verdict.status in (Status.FAIL, Status.WARN)
    assert verdict.saw
    assert verdict.hint


@each_check
def test_facts_are_frozen(check: Check[Any]):
    name = dataclasses.fields(check.passing)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(check.passing, name, None)


def test_readme_lists_the_checks():
    assert README.read_text(encoding="utf-8") == renewed(README.read_text(encoding="utf-8")), (
        "sedd/preflight/README.md is out of date: python -m sedd.preflight.show.readme"
    )
