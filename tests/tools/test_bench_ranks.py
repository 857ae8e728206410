"""tools/bench_ranks.py: it measures both tasks with each number of ranks, on a network that takes no time."""

import re
import subprocess
import sys
from pathlib import Path

from tests.inference.networks import write_small_checkpoint

SCRIPT = Path(__file__).parents[2] / "tools" / "bench_ranks.py"
SIZES = ("--proteins", 24, "--draws", 2, "--samples", 24, "--length", 40, "--steps", 2)


def bench(network: Path, *further: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, SCRIPT, network, "--device", "cpu", *SIZES, *further]
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)


def test_it_prints_the_parts_per_second_of_each_number_of_ranks(tmp_path: Path):
    done = bench(write_small_checkpoint(tmp_path / "n.pt"), "--gpus", "1,2", "--batch", 200)
    assert done.returncode == 0, done.stderr
    found = re.findall(r"(\w+): (\d) ranks, ([\d.]+) parts/s, ([\d.]+) times as many, (.+)", done.stdout)
    assert [row[:2] for row in found] == [(t, n) for t in ("evaluate", "sample") for n in ("1", "2")]
    assert {row[4] for row in found} == {"the same files"}
    assert all(float(row[2]) > 0 for row in found)
    assert [row[3] for row in found[::2]] == ["1.00", "1.00"]


def test_it_says_when_there_are_too_few_parts_to_measure(tmp_path: Path):
    done = bench(write_small_checkpoint(tmp_path / "n.pt"), "--gpus", "1", "--tasks", "sample")
    assert done.returncode == 1
    assert "1 parts are too few for 1 ranks" in done.stderr
