"""The estimate for a V100, with an H200's rates in the place of a V100's, is what that H200 measured."""

import subprocess
import sys
from pathlib import Path

import pytest

from sedd.soonest import v100
from sedd.spec.model import ModelSpec

TOOLS = Path(__file__).resolve().parents[2] / "tools"


def test_with_the_rates_of_an_h200_it_gives_what_one_measured(monkeypatch):
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
