"""tools/bench_bound.py: the exact score of independent residues gives their entropy, for every graph and schedule."""

import subprocess
import sys
from pathlib import Path

from sedd.diffusion.graph import GRAPHS
from sedd.diffusion.noise import NOISES
from tools.bench_bound import FASTA, read, single, whole

SCRIPT = Path(__file__).parents[2] / "tools/bench_bound.py"


def test_the_bound_is_the_entropy_of_the_law_that_residues_are_drawn_from() -> None:
    proteins = read(FASTA, 12)
    exact = -proteins.frequencies[proteins.tokens].log().mean().item()
    for graph in GRAPHS:
        for noise in NOISES:
            value, error = whole(proteins, graph, noise, 0, 16)
            assert abs(value - exact) < 4 * error + 0.01
            assert single(proteins, graph, noise, 0, "by chance") != single(
                proteins, graph, noise, 0, "by length"
            )


def test_a_line_for_every_graph_and_schedule_that_differs() -> None:
    command = [sys.executable, str(SCRIPT), "--proteins=4", "--seeds=2", "--draws", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, check=True)
    rows = [line.split()[:2] for line in done.stdout.splitlines()[2:]]
    assert rows == [
        [g, n] for g, n in [("absorbing", "loglinear"), *(("uniform", n) for n in NOISES)] for _ in range(3)
    ]
