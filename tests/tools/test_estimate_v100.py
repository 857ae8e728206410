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


def test_heads_of_128_take_fewer_products_and_keep_four_bytes_a_pair():
    kinds = {
        heads: {
            kind.name: kind for kind in v100.kinds(ModelSpec(hidden=768, blocks=12, heads=heads), 1000, 410)
        }
        for heads in (6, 12)
    }
    kept = "gradients of the scores, kept"
    assert kinds[6][kept].work == 4 * 1000 * 410 * 6 * 12
    assert kept not in kinds[12]
    for which in (0, 1):
        narrow, wide = (
            sum(found[name].seconds(which) for name in ("attention's gradient", kept) if name in found)
            for found in (kinds[12], kinds[6])
        )
        assert 0.7 * narrow < wide < 0.9 * narrow


def test_it_says_that_it_is_an_estimate_and_fits_80_columns():
    done = subprocess.run(
        [sys.executable, str(TOOLS / "estimate_v100.py"), "--kinds"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("ESTIMATE")
    assert max(map(len, done.stdout.splitlines())) <= 80
