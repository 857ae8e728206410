"""tools/bench_reduction.py: it measures both arms, on as many ranks as asked for."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "tools" / "bench_reduction.py"


def test_it_prints_a_row_for_each_number_of_ranks() -> None:
    sizes = ["--micro-batches", "2", "--residues", "64", "--hidden", "32", "--blocks", "1", "--steps", "2"]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--ranks", "1", "2", *sizes],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if " ranks on " in line]
    assert [row.split()[0] for row in rows] == ["1", "2"]
    assert all("ratio" in row for row in rows)
    assert ["2 sums" in rows[0], "1 sums" in rows[1]] == [True, True]
