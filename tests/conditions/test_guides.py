"""Guides by an entry point of an installed package, or from a module."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sedd.conditions.guides import load_guide
from sedd.design.given import Given
from sedd.errors import UsageError
from sedd.inference.generation import draw_samples
from sedd.spec.conditions import GuidanceOptions
from sedd.spec.inference import SampleOptions
from tests.inference.networks import small_network


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A distribution with an entry point, as an installer leaves it in a folder of the search path."""
    site = tmp_path / "site"
    (site / "letters_guide-1.0.dist-info").mkdir(parents=True)
    (site / "letters_guide.py").write_text("from tests.conditions.charge_guide import make\n")
    info = site / "letters_guide-1.0.dist-info"
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: letters-guide\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[sedd.guides]\nletters = letters_guide:make\n")
    monkeypatch.syspath_prepend(site)
    return site


def test_an_entry_point_and_a_path_give_the_same_guide(installed: Path):
    rows = torch.nn.functional.one_hot(torch.tensor([15, 15, 4, 20]), 33).double()
    borders, levels = torch.tensor([0, 2, 4], dtype=torch.int32), torch.ones(2, dtype=torch.float64)
    for name in ("letters", "tests.conditions.charge_guide:make"):
        found = load_guide(f"{name}=K")(rows, borders, levels)
        expected = torch.nn.functional.logsigmoid(torch.tensor([2.0, 0.0], dtype=torch.float64) - 10)
        torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nobody=1", "there is no guide 'nobody'"),
        ("tests.conditions.nobody:make", "cannot be loaded: No module named"),
        ("tests.conditions.charge_guide:nobody", "cannot be loaded"),
        ("tests.conditions.charge_guide:make", "cannot be made for '': ValueError: which letters?"),
        ("tests.conditions.charge_guide:no_guide", "has no method log_probability"),
    ],
)
def test_a_guide_that_cannot_be_had_is_one_clear_line(text: str, said: str):
    with pytest.raises(UsageError) as error:
        load_guide(text)
    assert said in error.value.message
    assert "\n" not in error.value.message


@pytest.mark.parametrize("graph", ["absorbing", "uniform"])
def test_a_guide_steers_a_network_that_knows_nothing_of_it(tmp_path: Path, graph: str):
    trained = small_network(tmp_path, graph=graph)
    how = SampleOptions(count=6, length=30, steps=24, seed=3)

    def letters(weight: float) -> float:
        guide = GuidanceOptions(guide="tests.conditions.charge_guide:make=KR", guide_weight=weight)
        samples = draw_samples(
            trained.under({}, guide, notify=print), how, Given(), lambda done, of: None, print
        )
        return sum(s.sequence.count("K") + s.sequence.count("R") for s in samples) / 180

    plain = draw_samples(trained, how, Given(), lambda done, of: None, print)
    share = sum(s.sequence.count("K") + s.sequence.count("R") for s in plain) / 180
    assert letters(0.0) == share
    assert letters(4.0) > share + 0.15


def test_the_exact_way_and_the_first_order_steer_alike(tmp_path: Path):
    trained = small_network(tmp_path)
    how, found = SampleOptions(count=2, length=8, steps=6, seed=1), {}
    for changes in ("exact", "first_order"):
        guide = GuidanceOptions(
            guide="tests.conditions.charge_guide:make=KR", guide_weight=8, guide_changes=changes
        )
        samples = draw_samples(
            trained.under({}, guide, notify=print), how, Given(), lambda done, of: None, print
        )
        found[changes] = sum(s.sequence.count("K") + s.sequence.count("R") for s in samples)
    assert min(found.values()) >= 8


def deaf(target: str) -> Any:
    """A guide that does not listen."""
    return SimpleNamespace(log_probability=lambda rows, borders, level: torch.zeros(len(borders) - 1))


def test_a_guide_without_a_gradient_is_told_to_be_one(tmp_path: Path):
    guide = GuidanceOptions(guide=f"{__name__}:deaf")
    trained = small_network(tmp_path).under({}, guide, notify=print)
    with pytest.raises(
        UsageError, match="does not come from its rows by operations that have a gradient"
    ) as e:
        draw_samples(
            trained, SampleOptions(count=1, length=4, steps=2), Given(), lambda done, of: None, print
        )
    assert "guide_changes: exact" in str(e.value.hint)
