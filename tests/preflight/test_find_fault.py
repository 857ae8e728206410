"""Whose fault a failed check on a node is: every check says so, and in doubt it is the node's."""

import ast
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sedd.preflight.check import Check, all_checks
from sedd.preflight.context import CheckContext, Side
from sedd.preflight.find_fault import find_fault, is_one_kind
from sedd.preflight.finding import Fault, Status
from sedd.preflight.run_checks import in_turn
from tests.preflight.slurm_facts import node, partition, profile, silence, slurm

FINAL = {Fault.JOB, Fault.NODE, Fault.DISK, Fault.PEER}
ELSEWHERE = Path("/dev/shm")  # another file system than that of the tests' folders

each_check = pytest.mark.parametrize(
    "check", [check for _, check in all_checks().items()], ids=list(all_checks())
)


@each_check
def test_exactly_the_checks_of_a_node_say_whose_fault_they_find(check: Check[Any]) -> None:
    assert (check.fault is not None) == (Side.NODE in check.sides)


@each_check
def test_a_verdict_that_blames_another_is_one_of_a_check_of_a_node(check: Check[Any]) -> None:
    """`fail(saw, hint, fault)`: whom it blames is written at the verdict, and nobody reads it on the login side."""
    source = inspect.getsource(sys.modules[type(check.passing).__module__])
    calls = [
        n for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Call) and ast.unparse(n.func) == "fail"
    ]
    blaming = [call for call in calls if len(call.args) > 2]
    assert not blaming or Side.NODE in check.sides


@each_check
def test_a_failed_check_of_a_node_comes_to_one_fault(
    check: Check[Any], make_context: Callable[..., CheckContext], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = sys.modules[type(check.passing).__module__]
    monkeypatch.setattr(file, "gather", lambda context: check.failing)
    for side in check.sides:
        (found,) = in_turn(
            {"it": check}, [make_context(side=side, profile=profile(), slurm=silence())], limit_s=30
        )
        is_judged = side is Side.NODE and found.status is Status.FAIL
        assert (found.fault in FINAL) if is_judged else found.fault is None


@pytest.mark.parametrize(
    ("missing", "made", "fault"),
    [
        ("data/store", "data/other/", Fault.JOB),  # the folder is there, and what lies beside it
        ("data/store", "data/", Fault.NODE),  # perhaps the empty place of a mount
        ("data/store", "data/store/", Fault.JOB),  # it is there: what is wrong with it is wrong everywhere
        ("data/store", "", Fault.NODE),
    ],
)
def test_files_that_are_missing_in_a_file_system_that_the_node_sees_are_missing_everywhere(
    make_context: Callable[..., CheckContext], tmp_path: Path, missing: str, made: str, fault: Fault
) -> None:
    if made:
        (tmp_path / made).mkdir(parents=True)
    context = make_context(side=Side.NODE, profile=profile(), folder=tmp_path)
    assert find_fault(Fault.FILES, [tmp_path / missing], context) is fault
    assert find_fault(Fault.FILES, [tmp_path / missing], make_context(side=Side.NODE)) is Fault.JOB, (
        "no other node"
    )


def test_files_of_another_file_system_than_the_runs_may_be_missing_on_this_node_alone(
    make_context: Callable[..., CheckContext], tmp_path: Path
) -> None:
    assert tmp_path.stat().st_dev != ELSEWHERE.stat().st_dev
    context = make_context(side=Side.NODE, profile=profile(), folder=tmp_path)
    for path in (ELSEWHERE / "no-such-store", Path("/no-such-mount/store")):
        assert find_fault(Fault.FILES, [tmp_path, path], context) is Fault.NODE


@pytest.mark.parametrize(
    ("nodes", "given", "is_so"),
    [
        ([{"gpus": {"v100": 4}}, {"gpus": {"v100": 8}}], {}, True),
        ([{"gpus": {"v100": 4}}, {"gpus": {"a100": 4}}], {}, False),
        ([{"gpus": {"v100": 4}}, {"gpus": {"a100": 4}}], {"gpu": {"type": "v100"}}, True),
        ([{"gpus": {"v100": 4}}, {"gpus": {}}], {}, True),
        (
            [{"gpus": {"v100": 4}, "features": ("16g",)}, {"gpus": {"v100": 4}, "features": ("32g",)}],
            {},
            False,
        ),
        (
            [{"gpus": {"v100": 4}, "features": ("16g",)}, {"gpus": {"v100": 4}, "features": ("32g",)}],
            {"constraint": "32g"},
            True,
        ),
        ([{"gpus": {"v100": 4}, "features": ("16g",)}], {"constraint": "[16g|32g]"}, True),
        ([], {}, False),
    ],
)
def test_what_one_kind_of_card_cannot_do_no_node_with_it_can(
    nodes: list[dict[str, Any]], given: dict[str, Any], is_so: bool
) -> None:
    assert is_one_kind([node(**each) for each in nodes], profile(**given)) == is_so


def test_without_an_answer_of_slurm_another_node_may_have_another_card(
    make_context: Callable[..., CheckContext],
) -> None:
    def context(answers: object) -> CheckContext:
        return make_context(side=Side.NODE, profile=profile(), slurm=answers)

    assert find_fault(Fault.CARD, [], context(silence())) is Fault.NODE
    known = slurm(partition(), nodes=(node(gpus={"v100": 4}), node(gpus={"v100": 4})))
    assert find_fault(Fault.CARD, [], context(known)) is Fault.JOB
