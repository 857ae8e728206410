"""tools/bench_scoring.py: it measures what it says, on a network that takes no time."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "tools" / "bench_scoring.py"


def test_a_scan_is_timed_packed_and_one_by_one():
    command = [sys.executable, str(SCRIPT), "--hidden", "64", "--residues", "20", "--alone", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode in (0, 1), done.stderr
    assert "masked: 380 mutants of 20 residues on " in done.stdout
    assert "times as fast" in done.stdout
