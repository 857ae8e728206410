"""The estimate for a V100, with an H200's rates in the place of a V100's, is what that H200 measured."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from sedd.spec.model import ModelSpec

TOOLS = Path(__file__).resolve().parents[2] / "tools"


@pytest.fixture
def v100(monkeypatch):
    monkeypatch.syspath_prepend(str(TOOLS))
    specification = importlib.util.spec_from_file_location("_v100", TOOLS / "_v100.py")
    module = importlib.util.module_from_spec(specification)
    monkeypatch.setitem(sys.modules, "_v100", module)
    specification.loader.exec_module(module)
    return module


def test_with_the_rates_of_an_h200_it_gives_what_one_measured(v100, monkeypatch):
    monkeypatch.setattr(v100, "MATMUL", 645e12)
    monkeypatch.setattr(v100, "BANDWIDTH", 4.3e12)
    monkeypatch.setattr(v100, "FLOAT32", 60e12)
    model = ModelSpec(hidden=768, cond=128, blocks=12, heads=12)
    slow, _ = v100.estimated_rates(model, 32_768, 410)
    assert slow == pytest.approx(618_027, rel=0.1)


def test_it_says_that_it_is_an_estimate_and_fits_80_columns():
    done = subprocess.run(
        [sys.executable, str(TOOLS / "estimate_v100.py"), "--kinds"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("ESTIMATE")
    assert max(map(len, done.stdout.splitlines())) <= 80
