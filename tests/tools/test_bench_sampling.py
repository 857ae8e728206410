"""tools/bench_sampling.py: as many calls as steps in which a residue appears."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "bench_sampling.py"


def test_the_calls_are_the_steps_in_which_something_happens():
    command = [
        sys.executable,
        str(SCRIPT),
        "--lengths",
        "40",
        "--proteins",
        "1",
        "--steps",
        "20",
        "400",
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    few, many = json.loads(done.stdout)["calls"]
    for row in (few, many):
        # By loglinear noise each residue appears in one of the steps, all equally likely: 1 - (1 - 1/steps)^40 of them.
        expected = row["steps"] * (1 - (1 - 1 / row["steps"]) ** 40)
        assert row["cached"] == pytest.approx(expected, abs=4)
    assert many["plain"] == 401
