"""tools/bench_samplers.py: a row for each sampler and number of steps, of the same lengths."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.inference.networks import write_small_checkpoint
from tools.bench_samplers import error_of_ratio

SCRIPT = Path(__file__).parents[2] / "tools" / "bench_samplers.py"


def test_every_sampler_is_measured(tmp_path: Path):
    network, out = write_small_checkpoint(tmp_path / "small.pt"), tmp_path / "found.json"
    arguments = [
        "--proteins",
        "3",
        "--steps",
        "2",
        "3",
        "--samplers",
        "plain",
        "remask-3",
        "margin",
        "-o",
        str(out),
    ]
    done = subprocess.run(
        [sys.executable, SCRIPT, network, *arguments], capture_output=True, text=True, timeout=200, check=True
    )
    found = json.loads(out.read_text())
    assert [(row["sampler"], row["steps"]) for row in found["rows"]] == [
        (name, steps) for steps in (2, 3) for name in ("plain", "remask-3", "margin")
    ]
    assert all(row["bound"] > row["bound_error"] > 0 for row in found["rows"])
    assert len({row["bound"] for row in found["rows"]}) == 6
    assert len(done.stdout.splitlines()) == 8


def test_the_error_is_that_of_drawing_other_proteins():
    generator = np.random.default_rng(0)
    residues = generator.integers(20, 400, (300, 200))
    nats = residues * 2.8 + generator.normal(size=residues.shape) * 0.1 * residues
    means = nats.sum(1) / residues.sum(1)
    assert error_of_ratio(nats[0], residues[0]) == pytest.approx(means.std(), rel=0.2)
