"""Replay a load of jobs on the dev cluster, and compare when runs end: in one fixed shape, and by `--soonest`.

Everybody's jobs sleep; a run's job sleeps as long as its shape would train. The load is drawn from a seed, the same for
each replay, and lengths are minutes where a site has hours. `soonest` picks anew for each job of a run.

eval "$(bash slurm/devcluster/up.sh)"; python tools/bench_soonest.py --cluster slurm/devcluster.yaml
"""

import argparse
import datetime as dt
import os
import random
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from sedd.cluster.command import run as call
from sedd.cluster.profile import SlurmProfile, load_profile
from sedd.model.size import parameter_count
from sedd.rundir.events import append_event
from sedd.rundir.layout import create_run, run_id, write_manifest
from sedd.soonest.choose import Wish, choose
from sedd.soonest.forecast import Work, usable
from sedd.soonest.shapes import JobShape, Layout
from sedd.soonest.speed import Measured, speed_of
from sedd.spec.experiment import Experiment
from sedd.spec.load import dump_resolved

START_S, SAVE_S, RATE = 3.0, 1.0, 131_072
"""Of the run that was measured: seconds to its first step and of a checkpoint, residues a second of one GPU."""
CARDS, _LENGTH_S = 16, 200
"""Of the dev cluster, and the mean length of the jobs of others."""


@dataclass(frozen=True)
class Load:
    """A job of somebody else."""

    at_s: float
    nodes: int
    gpus_per_node: int
    length_s: int
    limit_min: int


@dataclass
class Run:
    """A run of ours."""

    at_s: float
    steps: int
    job: str | None = None
    takes: int = 0
    """Steps of its job."""
    ended_s: float | None = None
    shapes: list[str] = field(default_factory=list)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--cluster", type=Path, required=True)
    parser.add_argument("--runs", type=int, default=6)
    parser.add_argument("--gpu-seconds", type=int, default=240, help="work of a run")
    parser.add_argument("--load", type=float, default=0.65, help="share of the cards that others keep busy")
    parser.add_argument("--over-s", type=int, default=420, help="in which all jobs arrive")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--ways", nargs="+", default=["fixed", "soonest"], choices=["fixed", "tight", "soonest"]
    )
    options = parser.parse_args()
    profile = load_profile(options.cluster)
    assert isinstance(profile, SlurmProfile), "a replay needs SLURM"
    with tempfile.TemporaryDirectory() as folder:
        replays = {way: replay(way, options, profile, Path(folder)) for way in options.ways}
    for way, runs in replays.items():
        took = [run.ended_s - run.at_s for run in runs if run.ended_s is not None]
        print(f"{way:8} mean {statistics.mean(took):5.0f} s   {' '.join(f'{each:.0f}' for each in took)}")
    if {"fixed", "soonest"} <= set(replays):
        means = [
            statistics.mean(r.ended_s - r.at_s for r in replays[way] if r.ended_s)
            for way in ("soonest", "fixed")
        ]
        print(f"soonest / fixed: {means[0] / means[1]:.2f}")


def replay(way: str, options: argparse.Namespace, profile: SlurmProfile, folder: Path) -> list[Run]:
    """One replay of the load; returns our runs as they ended."""
    experiment = asked(options)
    measure(experiment, profile, folder)
    draw = random.Random(options.seed)
    loads = draw_loads(draw, options.load, options.over_s)
    every_s = options.over_s / options.runs
    runs = [Run(at_s=every_s * (k + 0.5), steps=experiment.steps) for k in range(options.runs)]
    began, left = time.monotonic(), list(loads)
    while any(run.ended_s is None for run in runs):
        now_s = time.monotonic() - began
        while left and left[0].at_s <= now_s:
            submit_load(left.pop(0), profile)
        queued = call(["squeue", "--noheader", "--format=%i", "--states=PENDING,RUNNING,COMPLETING"]).split()
        for run in runs:
            if run.ended_s is None and run.at_s <= now_s and (run.job is None or run.job not in queued):
                go_on(run, way, experiment, profile, folder, now_s)
        time.sleep(1)
    call(["scancel", "--quiet", "--user", str(os.getuid())])
    return runs


def go_on(
    run: Run, way: str, experiment: Experiment, profile: SlurmProfile, folder: Path, now_s: float
) -> None:
    """Submit a run's next job, or note that it has ended."""
    run.steps -= run.takes
    if run.steps <= 0:
        run.ended_s = now_s
        print(f"{way}: {now_s - run.at_s:.0f} s: {'; '.join(run.shapes)}", flush=True)
        return
    if way == "soonest":
        shape = choose(Wish(experiment=experiment, steps=run.steps), profile, runs=folder).picked.shape
    else:
        least, most = experiment.resources.walltimes or (0, 0)
        shape = JobShape(
            layout=Layout(nodes=2, gpus_per_node=4), walltime_s=most if way == "fixed" else 2 * least
        )
    work = work_of(experiment, run.steps)
    measured = Measured(layout=Layout(nodes=1, gpus_per_node=1), residues_per_s=RATE, residues_per_step=RATE)
    speed = speed_of([measured], parameters=parameter_count(experiment.model), source="")
    step_s = speed.step_s(work.residues_per_step, shape.layout)
    run.takes = min(run.steps, int(usable(shape.walltime_s, work) / step_s))
    run.shapes.append(str(shape))
    run.job = submit(shape.layout, shape.walltime_s // 60, round(START_S + run.takes * step_s), profile)


def work_of(experiment: Experiment, steps: int) -> Work:
    return Work(
        steps=steps, residues_per_step=experiment.training.residues_per_step, start_s=START_S, save_s=SAVE_S
    )


def asked(options: argparse.Namespace) -> Experiment:
    """A training that takes this many GPU-seconds, on 1 to 8 GPUs."""
    return Experiment.model_validate(
        {
            "name": "replayed",
            "data": {"store": "/nowhere"},
            "training": {
                "steps": options.gpu_seconds,
                "residues_per_step": RATE,
                "residues_per_gpu": RATE // 16,
                "reduction": "ordered",
            },
            "resources": {
                "nodes": 2,
                "gpus": "1-8",
                "walltime": "1m-10m",
                "memory": "1GiB",
                "cpus_per_process": 1,
            },
        }
    )


def measure(experiment: Experiment, profile: SlurmProfile, folder: Path) -> None:
    """An earlier run of the same network, whose events say how fast one GPU is."""
    now = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)
    run = create_run(folder, "measured", run_id(now, experiment.hash()), dump_resolved(experiment))
    about = {"parameters": parameter_count(experiment.model), "profile": profile.model_dump(mode="json")}
    write_manifest(run, about)
    after = [
        ("attempt_started", 0.0, {"gpus": 1, "nodes": 1}),
        ("resumed", START_S, {"step": 0}),
        ("checkpoint", START_S + 100, {"step": 100, "seconds": SAVE_S}),
    ]
    for event, seconds, fields in after:
        append_event(run.events, event, attempt=1, now=now + dt.timedelta(seconds=seconds), **fields)


def draw_loads(draw: random.Random, load: float, over_s: float) -> list[Load]:
    """Jobs of others: half of them on one card, few on two nodes; enough at once to keep their share busy."""
    found, busy = list[Load](), 0.0
    while busy < CARDS * load * (over_s + _LENGTH_S):
        length_s = draw.randint(_LENGTH_S // 2, 3 * _LENGTH_S // 2)
        nodes, gpus = draw.choices([(1, 1), (1, 2), (1, 4), (2, 4)], weights=(5, 2, 2, 1))[0]
        is_first = busy < CARDS * load * _LENGTH_S
        at_s = draw.uniform(0, 5) if is_first else draw.uniform(0, over_s)
        minutes = -(-length_s // 60)
        found.append(Load(at_s, nodes, gpus, length_s, draw.randint(minutes, 2 * minutes)))
        busy += nodes * gpus * length_s
    return sorted(found, key=lambda each: each.at_s)


def submit_load(load: Load, profile: SlurmProfile) -> None:
    submit(Layout(nodes=load.nodes, gpus_per_node=load.gpus_per_node), load.limit_min, load.length_s, profile)


def submit(layout: Layout, minutes: int, seconds: int, profile: SlurmProfile) -> str:
    """A job that sleeps; its id."""
    options = [
        *(f"--nodes={layout.nodes}", f"--ntasks-per-node={layout.gpus_per_node}", f"--time={minutes}"),
        *(f"--gres=gpu:{profile.gpu.type}:{layout.gpus_per_node}", "--mem=1G", "--output=/dev/null"),
        *([f"--partition={profile.partition}"] if profile.partition else []),
    ]
    return call(["sbatch", "--parsable", *options], stdin=f"#!/bin/sh\nsleep {seconds}\n").strip()


if __name__ == "__main__":
    main()
