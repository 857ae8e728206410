"""A halving sweep of tiny networks, submitted by the functions of the command line, and what comes out of it."""

import datetime as dt
import gzip
from collections.abc import Sequence
from pathlib import Path

from sedd.cluster.profile import LocalProfile, Profile
from sedd.data.build import build_store
from sedd.launch.make_runs import Order
from sedd.launch.submit import submit
from sedd.rundir.attempts import is_completed, is_stopped
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir, read_manifest
from sedd.spec.build import BuildOptions
from sedd.spec.load import load_request
from tests.tiny import PROTEINS

LOCAL = LocalProfile(executor="local")
RATES = (1.0e-2, 3.0e-3, 1.0e-3, 3.0e-4, 1.0e-4, 3.0e-5, 1.0e-5, 3.0e-6, 1.0e-6)
"""Learning rates that a tiny network tells apart after a few steps."""


def write_spec(
    folder: Path,
    *,
    rungs: Sequence[int] = (4, 8),
    steps: int = 12,
    keep: str = "1/3",
    points: str = f"grid: {{training.learning_rate: [{', '.join(f'{r:.1e}' for r in RATES)}]}}",
    parallel: int = 3,
    every: int = 4,
    name: str = "halved",
) -> Path:
    """`spec.yaml`, and beside it the store that it names."""
    store = folder / "p.store"
    if not store.exists():
        with gzip.open(PROTEINS, "rt") as proteins:
            (folder / "p.fasta").write_text("".join(next(proteins) for _ in range(300)))
        build_store([folder / "p.fasta"], store, BuildOptions(validation_fraction=0.2))
    path = folder / "spec.yaml"
    path.write_text(f"""\
name: {name}
data: {{store: p.store, max_length: 64}}
model: {{hidden: 16, cond: 8, blocks: 1, heads: 2}}
training:
  steps: {steps}
  residues_per_step: 256
  residues_per_gpu: 256
  warmup_steps: 2
  log_every_steps: {every}
  validation: {{every_steps: {every}, residues: 512}}
  checkpoint: {{every_steps: {every}}}
resources: {{gpus_per_node: 0, cpus_per_process: 1, memory: 1GiB, walltime: 30m}}
tracking: {{wandb: disabled}}
sweep:
  {points}
  halving: {{metric: validation, rungs: [{", ".join(map(str, rungs))}], keep: {keep}}}
  parallel: {parallel}
""")
    return path


def order_of(spec: Path, profile: Profile = LOCAL) -> Order:
    request = load_request(spec)
    return Order(
        request=request,
        profile=profile,
        runs=spec.parent / "runs",
        parameters=[None] * len(request.experiments),
    )


def submitted(spec: Path, profile: Profile = LOCAL) -> tuple[RunDir, ...]:
    return submit(order_of(spec, profile), now=dt.datetime.now(dt.UTC)).runs


def is_over(run: RunDir) -> bool:
    events = read_events(run.events)
    return is_completed(events) or is_stopped(events)


def fates(runs: Sequence[RunDir]) -> list[tuple[tuple[int, ...], str]]:
    """Of each point, in the order of the sweep: the rungs that it passed, and how it ended."""
    ordered = sorted(runs, key=lambda run: read_manifest(run)["halving"]["index"])
    found = []
    for run in ordered:
        events = read_events(run.events)
        passed = tuple(int(e.get("step")) for e in events if e.event == "promoted")
        word = "completed" if is_completed(events) else "stopped" if is_stopped(events) else "open"
        found.append((passed, word))
    return found


def trained_steps(runs: Sequence[RunDir]) -> int:
    """Steps that were kept, over all points."""
    saved = (
        [int(e.get("step", 0)) for e in read_events(run.events) if e.event == "checkpoint"] for run in runs
    )
    return sum(max(steps, default=0) for steps in saved)
