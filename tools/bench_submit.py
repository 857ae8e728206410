"""Measure `sedd submit` on a sweep: one spec of a thousand points, from the command line to SLURM's job ids.

Seconds are of CPU, user and system, of the whole command, the best of three: other users of the machine are not the
program's fault. The wall clock is printed beside it. SLURM is a stand-in that answers at once; with `--cluster` it is
the real one that the profile names, and its jobs are cancelled again.

python tools/bench_submit.py --points 1000 --check
"""

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PROTEINS = ROOT / "jobs" / "data" / "uniprot2k.fasta.gz"
LIMIT_CPU_S = 5.0
_STAND_INS = {
    "sbatch": "echo Submitted batch job 100",
    "srun": "",
    "scontrol": "echo SLURM_VERSION = 22.05.8; echo MaxArraySize = 100000",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--cluster", type=Path, help="profile of a real SLURM; default: a stand-in")
    parser.add_argument("--check", action="store_true", help="fail when the limit is missed")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bench submit "))
    try:
        _sedd("data", "build", PROTEINS, "-o", folder / "proteins.store")
        spec = write_spec(folder, arguments.points)
        cluster = arguments.cluster or write_stand_in(folder)
        taken = [
            measure(folder / f"runs {n}", spec, cluster, arguments.cluster is not None) for n in range(3)
        ]
    finally:
        shutil.rmtree(folder)
    cpu_s, wall_s = (min(column) for column in zip(*taken, strict=True))
    print(
        f"{arguments.points} points: {cpu_s:.2f} s of CPU (limit {LIMIT_CPU_S:g} s), {wall_s:.2f} s by the clock"
    )
    if arguments.check and cpu_s > LIMIT_CPU_S:
        sys.exit(1)


def write_spec(folder: Path, points: int) -> Path:
    """A sweep over the seed."""
    spec = {
        "name": "thousand",
        "data": {"store": str(folder / "proteins.store")},
        "training": {"steps": 300, "residues_per_step": 4096, "residues_per_gpu": 4096},
        "resources": {"gpus_per_node": 0, "cpus_per_process": 1, "memory": "1GiB", "walltime": "30m"},
        "sweep": {"grid": {"seed": list(range(points))}, "parallel": 8},
    }
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def write_stand_in(folder: Path) -> Path:
    """SLURM's commands as scripts in `folder`, and a profile."""
    for name, text in _STAND_INS.items():
        (folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (folder / name).chmod(0o755)
    profile = folder / "site.yaml"
    profile.write_text("executor: slurm\n")
    return profile


def measure(runs: Path, spec: Path, cluster: Path, is_real: bool) -> tuple[float, float]:
    """Seconds of CPU and of the clock for one submission."""
    # The checks ask SLURM many questions that a stand-in cannot answer.
    options = ["--cluster", cluster, "--json", *([] if is_real else ["--no-preflight"])]
    before, began = _cpu_s(), time.monotonic()
    told = json.loads(_sedd("submit", spec, *options, runs=runs, path=None if is_real else spec.parent))
    taken = _cpu_s() - before, time.monotonic() - began
    if is_real:
        arrays = {run["job_id"].partition("_")[0] for run in told["runs"]}
        subprocess.run(["scancel", "--quiet", *arrays], check=True)
    return taken


def _sedd(*arguments: str | Path, runs: Path | None = None, path: Path | None = None) -> str:
    environment = os.environ | ({"SEDD_RUNS": str(runs)} if runs else {})
    if path:
        environment["PATH"] = f"{path}{os.pathsep}{environment['PATH']}"
    command = [sys.executable, "-m", "sedd", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    main()
