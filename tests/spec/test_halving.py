"""Specs of halving sweeps: what they say, and what they refuse."""

from pathlib import Path

import pytest

from sedd.errors import SpecError
from sedd.spec.halving import HalvingSpec
from sedd.spec.load import Request, load_request

SPEC = """\
name: halved
data: {store: p.store}
training: {steps: 18000, validation: {every_steps: 1000}}
sweep:
  grid: {seed: [0, 1, 2, 3, 4, 5, 6, 7, 8]}
  halving: {rungs: [2000, 6000, 18000], keep: 1/3}
"""


def loaded(folder: Path, *changes: tuple[str, str]) -> Request:
    text = SPEC
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    (folder / "spec.yaml").write_text(text)
    return load_request(folder / "spec.yaml")


def test_a_rung_at_the_last_step_decides_nothing(tmp_path: Path) -> None:
    halving = loaded(tmp_path).halving
    assert halving is not None
    assert halving.decisive(18000) == (2000, 6000)
    assert halving.outlook(27, 18000) == (
        "halving: of 27 points 9 go on from step 2,000, 3 from 6,000; 26% of all steps"
    )


@pytest.mark.parametrize(
    "points",
    [
        "list: [{seed: 1}, {training.learning_rate: 1.0e-4}]",
        "zip: {seed: [1, 2]}",
        "random: {points: 5, over: {training.learning_rate: {log_uniform: [1.0e-4, 1.0e-2]}}}",
    ],
)
def test_it_goes_together_with_any_kind_of_points(tmp_path: Path, points: str) -> None:
    request = loaded(tmp_path, ("grid: {seed: [0, 1, 2, 3, 4, 5, 6, 7, 8]}", points))
    assert request.halving is not None
    assert len(request.experiments) == len(request.points) >= 2


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ([("[2000, 6000, 18000]", "[2500, 6000]")], "nothing is validated at rung 2500"),
        ([("[2000, 6000, 18000]", "[2000, 20000]")], "rung 20000 lies beyond training.steps, which is 18000"),
        ([("[2000, 6000, 18000]", "[18000]")], "nothing would be stopped"),
        ([("[2000, 6000, 18000]", "[6000, 2000]")], "rungs are steps that rise"),
        ([("keep: 1/3", "keep: 1.5")], "between 0 and 1"),
        ([("keep: 1/3", "keep: third")], "write a share such as 1/3"),
        ([("[0, 1, 2, 3, 4, 5, 6, 7, 8]", "[0]")], "two points at least"),
        (
            [("seed: [0, 1, 2, 3, 4, 5, 6, 7, 8]", "training.steps: [18000, 19000]")],
            "the same training.steps",
        ),
        (
            [("seed: [0, 1, 2, 3, 4, 5, 6, 7, 8]", "data.max_length: [128, 512]")],
            "the same data.max_length: they are compared by the same validation",
        ),
        (
            [("seed: [0, 1, 2, 3, 4, 5, 6, 7, 8]", "data.store: [p.store, q.store]")],
            "the same data.store",
        ),
        (
            [
                (
                    "data: {store: p.store}\ntraining: {steps: 18000, validation: {every_steps: 1000}}",
                    "task: sample",
                ),
                ("seed: [0, 1, 2, 3, 4, 5, 6, 7, 8]", "sample.count: [1, 2]"),
                ("sweep:", "sample: {network: net}\nsweep:"),
            ],
            "halving compares trainings",
        ),
    ],
)
def test_what_cannot_be_halved_is_one_clear_line(
    tmp_path: Path, changes: list[tuple[str, str]], complaint: str
) -> None:
    with pytest.raises(SpecError) as caught:
        loaded(tmp_path, *changes)
    assert complaint in caught.value.message
    assert "spec.yaml:6" in caught.value.message or "spec.yaml:" in caught.value.message
    assert "Traceback" not in caught.value.message


@pytest.mark.parametrize(("keep", "counts"), [("1/3", (27, 9, 3)), (0.25, (27, 7, 2)), ("1/2", (27, 14, 7))])
def test_a_share_is_rounded_up(keep: str | float, counts: tuple[int, ...]) -> None:
    assert HalvingSpec(rungs=(1, 2), keep=keep).places(27) == counts
