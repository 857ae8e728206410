"""A short campaign of tools/chaos.py: real training on a real SLURM, hurt at random, ends equal to the bit."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.slurm.conftest import why_not

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(1500)]

CHAOS = Path(__file__).parents[2] / "tools" / "chaos.py"
FAULTS = (
    "preempt",
    "kill rank",
    "kill in save",
    "disk full",
    "hang",
    "reused job ids",
)
"""What is only seen in a whole run: hostile shells and folders that are moved have tests of their own."""


def test_runs_that_are_hurt_at_random_end_as_if_nothing_had_happened() -> None:
    if reason := why_not():
        pytest.skip(reason)
    environment = {name: value for name, value in os.environ.items() if name != "SLURM_CONF"}
    options = ["--seed", "7", "--faults", str(len(FAULTS)), "--steps", "400", "--patience", "900", "--json"]
    command = [sys.executable, str(CHAOS), *options, "--only", *FAULTS]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout, done.stderr
    campaign = json.loads(done.stdout)
    what = f"{json.dumps(campaign, indent=1)}\n{done.stderr}"
    assert {fault["fault"] for fault in campaign["faults"]} == set(FAULTS), what
    assert campaign["strangers"]["planted"], what
    assert not campaign["strangers"]["touched"], what
    assert not campaign["violations"], what
    assert {run["layout"] for run in campaign["runs"]} == {"single", "array/0", "array/1", "2x2"}, what
    assert all(run["completed"] for run in campaign["runs"]), what
    assert not any(run["differences"] for run in campaign["runs"]), what
    assert not any(run["overlaps"] for run in campaign["runs"]), what
    assert not any(run["steps_lost_gracefully"] for run in campaign["runs"]), what
    assert not campaign["orphans"], what
    assert done.returncode == 0, what
