"""How well does the 24 M network learn real proteins, at the same number of residues, by its several objectives?

    python tools/bench_quality.py uniprot20k.fasta.gz --clusters uniprot20k_clusters.tsv -o quality --arms compare ideas

Trains one run an arm through `sedd train`, on a split that keeps relatives together (a protein is in validation if
int(sha256(its cluster's representative), 16) % 100 < 5), and writes after each arm FOLDER/quality.json and quality.svg:
validation perplexity over residues beside the n-gram models of the same split. Arms that are finished are not trained
again, and one that was cut short (--minutes, Ctrl-C) goes on where it stopped: repeat the command until it exits 0.
`--seeds 3` trains each arm with seeds 0, 1 and 2, and prints mean and standard deviation over them. `a+b` is an arm
with the changes of arm a, and then of b: `--arms power+heads-16+rate-2e-3`.

    python tools/bench_quality.py --tiny -o /tmp/quality      proves on a CPU, in minutes, that all of it works
"""

import argparse
import hashlib
import json
import math
import os
import platform
import queue
import re
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import torch
from _ngrams import ngram_nats, sequences_of

from sedd.data.batches import validation_batches
from sedd.data.build import build_store
from sedd.data.store import TokenStore
from sedd.diffusion.likelihood import join_bounds, likelihood_bound
from sedd.errors import SeddError, UsageError
from sedd.inference.load_network import Trained, load_trained
from sedd.rundir.atomic import write_text
from sedd.rundir.events import read_events
from sedd.rundir.find import list_runs
from sedd.rundir.layout import RunDir
from sedd.spec.build import BuildOptions
from sedd.spec.experiment import Experiment
from sedd.spec.load import dump_resolved, load_request, load_resolved
from sedd.training.checkpoint_file import newest_whole
from sedd.training.loader import to_device
from sedd.training.metrics import read_metrics

DATA = Path(__file__).resolve().parents[1] / "jobs/data"
ARMS: dict[str, dict[str, dict[str, Any]]] = {
    # What is told apart: how the output is read, how fast noise comes, what it turns residues into.
    "compare": {
        "score": {},
        "subs": {"diffusion.parameterization": "subs"},
        "score-geometric": {"diffusion.noise": {"kind": "geometric"}},
        "subs-geometric": {"diffusion.parameterization": "subs", "diffusion.noise": {"kind": "geometric"}},
        "score-uniform": {"diffusion.graph": "uniform"},
        "subs-uniform": {"diffusion.graph": "uniform", "diffusion.parameterization": "subs"},
        "score-uniform-geometric": {"diffusion.graph": "uniform", "diffusion.noise": {"kind": "geometric"}},
    },
    # One change each from `score`; `adamw` is the recipe whose sketch had reached 17.07.
    "ideas": {
        "adamw": {"training.optimizer": "adamw"},
        "counts": {"diffusion.estimator": "counts"},
        "subs-counts": {"diffusion.parameterization": "subs", "diffusion.estimator": "counts"},
        "half-batch": {"training.residues_per_step": 16_384},
        "rate-2e-3": {"training.learning_rate": 2e-3},
        "rate-5e-4": {"training.learning_rate": 5e-4},
        "subs-power": {"diffusion.parameterization": "subs", "diffusion.time_power": 2.0},
        "score-uniform-power": {"diffusion.graph": "uniform", "diffusion.time_power": 2.0},
        "power": {  # the best so far
            "diffusion.graph": "uniform",
            "diffusion.parameterization": "subs",
            "diffusion.time_power": 2.0,
        },
        "dropout-0": {"model.dropout": 0.0},
        "dropout-0.2": {"model.dropout": 0.2},
        "decay-0.1": {"training.weight_decay": 0.1},
    },
    # To be joined to the best of the above, `power+heads-16`: what it might still learn from.
    "network": {
        "width-256": {"model.hidden": 256, "model.heads": 4},
        "width-768": {"model.hidden": 768, "model.heads": 12},
        "heads-4": {"model.heads": 4},
        "heads-16": {"model.heads": 16},
        "shift": {"model.token_shift": 4},
    },
    "recipe": {
        "rate-3e-3": {"training.learning_rate": 3e-3},
        "rate-4e-3": {"training.learning_rate": 4e-3},
        "dropout-0.05": {"model.dropout": 0.05},
        "decay-1": {"training.weight_decay": 1.0},
        "decay-4": {"training.weight_decay": 4.0},
        "ema-0.998": {"training.ema_decay": 0.998},
        "ema-0.9995": {"training.ema_decay": 0.9995},
        "constant": {"training.schedule": "constant"},
        "warmup-1000": {"training.warmup_steps": 1000},
        "beta2-0.95": {"training.beta2": 0.95},
        "clip-10": {"training.clip_norm": 10.0},
        "quarter-batch": {"training.residues_per_step": 8192},
        "power-3": {"diffusion.time_power": 3.0},
    },
}
"""Group → arm → what differs from `recipe`."""
TINY = ["model.hidden=32", "model.cond=16", "model.blocks=2", "model.heads=2", "data.max_length=128"]
TINY += ["training.residues_per_step=2048", "training.learning_rate=3.0e-3"]
MARGIN_S = 40.0
"""Kept of --minutes for stopping, saving and judging."""
UNIFORM_DRAWS = 16
"""Times as many draws for the uniform graph, on a GPU."""
COLOURS = (
    "#0b6e4f",
    "#b23a48",
    "#2563eb",
    "#c58b2c",
    "#7c3aed",
    "#0e7490",
    "#64748b",
    "#be185d",
    "#65a30d",
    "#1c2330",
)


def main() -> int:
    arguments = parse_arguments()
    try:
        return bench(arguments)
    except SeddError as e:
        print(f"error: {e.message}", *([f"hint: {e.hint}"] if e.hint else []), sep="\n", file=sys.stderr)
        return e.exit_code
    except KeyboardInterrupt:
        print("stopped, and saved; the same command resumes here", file=sys.stderr)
        return 130


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fasta", type=Path, nargs="?", default=DATA / "uniprot2k.fasta.gz")
    parser.add_argument(
        "--clusters", type=Path, default=DATA / "uniprot2k_clusters.tsv", help="representative<tab>member"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the results")
    parser.add_argument("--runs", type=Path, help="folder of store and runs (default: in the output folder)")
    parser.add_argument(
        "--arms",
        nargs="+",
        default=["compare"],
        help=f"groups {', '.join(ARMS)}, or names of arms, several joined by +",
    )
    parser.add_argument("--seeds", type=int, default=1, help="seeds an arm, from 0 on")
    parser.add_argument("--parallel", type=int, default=1, help="arms at a time, dealt out to the GPUs")
    parser.add_argument("--residues", type=float, help="trained on by each arm (default 126e6; tiny: 2e5)")
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop, saved, after this many")
    parser.add_argument(
        "--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu"
    )
    parser.add_argument("--draws", type=int, default=4, help="noise levels a protein of the final bound")
    parser.add_argument(
        "--set", dest="overrides", action="append", default=[], metavar="KEY=VALUE", help="for all arms"
    )
    parser.add_argument("--tiny", action="store_true", help="a toy network on a CPU: does everything work?")
    arguments = parser.parse_args()
    if arguments.tiny:
        arguments.overrides, arguments.device = [*TINY, *arguments.overrides], "cpu"
    arguments.residues = arguments.residues or (2e5 if arguments.tiny else 126e6)
    arguments.runs = (arguments.runs or arguments.output).absolute()
    return arguments


def bench(arguments: argparse.Namespace) -> int:
    """Train and judge what is left to do; 0 if nothing is left afterwards, 1 if something is."""
    ends = time.monotonic() + 60 * arguments.minutes
    if arguments.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    arms = with_seeds(chosen_arms(arguments.arms), arguments.seeds)
    store = split_store(arguments)
    report = begin_report(arguments, store)
    asked = {name: recipe(arguments, store.path, name, changes) for name, changes in arms.items()}
    left = {
        name: experiment
        for name, experiment in asked.items()
        if report["arms"].get(name, {}).get("spec_hash") != experiment.hash()
    }
    for name, run, seconds in trained_side_by_side(arguments, left, ends):
        if run is None or not is_complete(run):
            print(f"{name}: cut short after {seconds:.0f} s; the same command resumes here", flush=True)
            continue
        del left[name]
        report["arms"][name] = judge(arguments, run, asked[name], store)
        write_report(arguments.output, report)
        found = report["arms"][name]
        print(f"{name}: perplexity {found['perplexity']:.3f} ± {found['error']:.3f}", flush=True)
    write_report(arguments.output, report)
    print(*over_seeds({name: report["arms"][name] for name in arms if name not in left}), sep="\n")
    return 1 if left else 0


def chosen_arms(names: list[str]) -> dict[str, dict[str, Any]]:
    """The arms of the named groups, and the named or joined arms. Raises: UsageError for another name."""
    every = {arm: changes for group in ARMS.values() for arm, changes in group.items()}
    found: dict[str, dict[str, Any]] = {}
    for name in names:
        parts = name.split("+")
        if name not in ARMS and (unknown := [part for part in parts if part not in every]):
            raise UsageError(f"there is no arm '{unknown[0]}'", hint=f"{', '.join([*ARMS, *every])}")
        # A run's name takes no plus.
        found |= ARMS.get(name) or {"-".join(parts): joined(every[part] for part in parts)}
    return found


def joined(changes: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """All of several changes; of one key the last."""
    return {key: value for each in changes for key, value in each.items()}


def with_seeds(arms: Mapping[str, dict[str, Any]], seeds: int) -> dict[str, dict[str, Any]]:
    """Each arm once a seed; seed 0, the default of a spec, keeps the arm's name. One seed of all arms comes first."""
    return {
        f"{name}-seed-{seed}" if seed else name: changes | ({"seed": seed} if seed else {})
        for seed in range(seeds)
        for name, changes in arms.items()
    }


def over_seeds(arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """A line for each arm that has several seeds: the mean perplexity, and its standard deviation over them."""
    found: dict[str, list[float]] = {}
    for name, arm in arms.items():
        found.setdefault(re.sub(r"-seed-\d+$", "", name), []).append(arm["perplexity"])
    return [
        f"{name}: {statistics.mean(values):.3f} ± {statistics.stdev(values):.3f} over {len(values)} seeds"
        for name, values in sorted(found.items(), key=lambda item: statistics.mean(item[1]))
        if len(values) > 1
    ]


# Data.


def split_store(arguments: argparse.Namespace) -> TokenStore:
    """The store of the FASTA file with the split that figures are quoted for; made on the first call."""
    arguments.runs.mkdir(parents=True, exist_ok=True)
    sides = arguments.runs / "sides.tsv"
    write_text(sides, "".join(two_clusters(arguments.clusters)))
    folder = arguments.runs / "proteins.store"
    options = BuildOptions(clusters=sides, validation_fraction=0.5, keep_duplicates=True)
    build_store([arguments.fasta], folder, options, progress=lambda read_bytes: None)
    return TokenStore.open(folder)


def two_clusters(table: Path) -> Iterator[str]:
    """The table with one of two representatives, such that each lies on its side of a split in halves."""
    # These very names: the build splits by a hash of them, and of these two it puts one on either side.
    for line in table.read_text().splitlines():
        representative, _, member = line.partition("\t")
        in_validation = int(hashlib.sha256(representative.encode()).hexdigest(), 16) % 100 < 5
        yield f"{'HELD_OUT' if in_validation else 'training'}\t{member}\n"


def begin_report(arguments: argparse.Namespace, store: TokenStore) -> dict[str, Any]:
    """What earlier calls have found about the same data, or a report without arms."""
    arguments.output.mkdir(parents=True, exist_ok=True)
    path = arguments.output / "quality.json"
    kept = arguments.runs / "quality.json"  # where the output folder is a new one for every call
    for known in (path, kept):
        if known.exists() and (old := json.loads(known.read_text()))["data"]["hash"] == store.content_hash:
            return dict(old)
    train, test = (sequences_of(store.split(name)) for name in ("train", "validation"))
    nats = ngram_nats(train, test)
    counts = {
        name: [store.split(name).sequences, store.split(name).residues] for name in ("train", "validation")
    }
    return {
        "data": {"file": arguments.fasta.name, "hash": store.content_hash, **counts},
        "baselines": dict(zip(("unigram", "bigram", "trigram"), map(math.exp, nats), strict=True)),
        "arms": {},
    }


# Training.


def recipe(arguments: argparse.Namespace, store: Path, name: str, changes: Mapping[str, Any]) -> Experiment:
    """The experiment of an arm: Muon at 1e-3, dropout 0.1, 32,768 residues a step, but for its changes."""
    spec = arguments.runs / f"{name}.yaml"
    base = {"name": name, "data": {"store": str(store)}, "training": {"steps": 1}}
    write_text(spec, json.dumps(base))
    said = [f"{key}={json.dumps(value)}" for key, value in changes.items()]
    # In this order: an arm may change the recipe, and the command line both.
    given = [
        "training.residues_per_step=32768",
        "training.residues_per_gpu=1",
        "training.optimizer=muon",
        "training.learning_rate=1.0e-3",
        "training.ema_decay=0.999",
        "tracking.wandb=disabled",
        *said,
    ]
    asked = load_request(spec, [*given, *arguments.overrides]).experiments[0]
    assert isinstance(asked, Experiment)
    batch = asked.training.residues_per_step
    steps = max(1, round(arguments.residues / batch))
    derived = [
        f"training.steps={steps}",
        f"training.residues_per_gpu={batch}",
        f"training.warmup_steps={max(1, steps // 20)}",
        f"training.log_every_steps={max(1, steps // 40)}",
        f"training.validation.every_steps={max(1, steps // 12)}",
        "training.validation.residues=100000000",
        "training.checkpoint.keep=1",
        f"resources.gpus_per_node={int(arguments.device == 'cuda')}",
        "resources.processes_per_node=1",
    ]
    # Once more what an arm changes: it may also be one of these.
    (experiment,) = load_request(spec, [*given, *derived, *said, *arguments.overrides]).experiments
    assert isinstance(experiment, Experiment)
    write_text(spec, dump_resolved(experiment))
    return experiment


def trained_side_by_side(
    arguments: argparse.Namespace, experiments: Mapping[str, Experiment], ends: float
) -> Iterator[tuple[str, RunDir | None, float]]:
    """Each arm's name and run, and seconds of this call, as they end; `--parallel` at a time, dealt out to the GPUs."""
    cards: queue.Queue[int] = queue.Queue()
    for number in range(arguments.parallel):
        cards.put(number % max(1, torch.cuda.device_count()))
    stop = threading.Event()
    with ThreadPoolExecutor(arguments.parallel) as pool:
        running = {
            pool.submit(train, arguments, experiment, ends, cards, stop): name
            for name, experiment in experiments.items()
        }
        try:
            for done in as_completed(running):
                yield running[done], *done.result()
        except BaseException:
            stop.set()
            raise


def train(
    arguments: argparse.Namespace,
    experiment: Experiment,
    ends: float,
    cards: "queue.Queue[int]",
    stop: threading.Event,
) -> tuple[RunDir | None, float]:
    """Begin or go on with an arm's run until it is complete or time is up; the run, and seconds of this call."""
    run = find(arguments.runs, experiment)
    if run is not None and is_complete(run):
        return run, 0.0
    began = time.monotonic()
    if ends - began < MARGIN_S or stop.is_set():
        return run, 0.0
    what = run.path if run is not None else arguments.runs / f"{experiment.name}.yaml"
    card = cards.get()
    environment = os.environ | {"SEDD_RUNS": str(arguments.runs)}
    if arguments.device == "cuda":
        environment["CUDA_VISIBLE_DEVICES"] = visible_card(card)
    log_path = arguments.runs / f"{experiment.name}.log"
    with log_path.open("ab") as log:
        command = [sys.executable, "-m", "sedd", "train", str(what)]
        # In a session of its own: Ctrl-C is for this script, which lets the training save.
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
        while process.poll() is None and time.monotonic() < ends - MARGIN_S and not stop.wait(0.3):
            pass
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.wait()
    cards.put(card)
    run = find(arguments.runs, experiment)
    if process.returncode and (run is None or newest_whole(run.checkpoints) is None):
        last = log_path.read_text().splitlines()[-2:]
        raise UsageError(f"{experiment.name} could not be trained: {' · '.join(last)}")
    return run, time.monotonic() - began


def visible_card(number: int) -> str:
    """The name by which a child sees the card that this process counts as `number`."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    return named.split(",")[number] if named else str(number)


def find(runs: Path, experiment: Experiment) -> RunDir | None:
    """The run of exactly this experiment, if it was begun."""
    same = (r for r in list_runs(runs) if r.name == experiment.name and load_resolved(r.spec) == experiment)
    return next(same, None)


def is_complete(run: RunDir) -> bool:
    return any(event.event == "completed" for event in read_events(run.events))


# Judging.


def judge(
    arguments: argparse.Namespace, run: RunDir, experiment: Experiment, store: TokenStore
) -> dict[str, Any]:
    """The final bound over the whole validation split, by its EMA weights, and the course of the training."""
    path = newest_whole(run.checkpoints)
    assert path is not None
    trained = load_trained(path)
    device = next(trained.model.parameters()).device
    # The uniform graph's bound takes many more draws for the same error; on a CPU they would take hours.
    many = UNIFORM_DRAWS if experiment.diffusion.graph == "uniform" and device.type == "cuda" else 1
    bound = bound_of(trained, store, draws=many * arguments.draws)
    rows = read_metrics(run.metrics)
    events = read_events(run.events)
    seconds = (events[-1].t - next(e.t for e in events if e.event == "attempt_started")).total_seconds()
    batch = experiment.training.residues_per_step
    return {
        "spec_hash": experiment.hash(),
        "perplexity": bound.perplexity,
        "nats": bound.nats_per_residue,
        "error": bound.perplexity * bound.standard_error,
        "residues": experiment.training.steps * batch,
        "curve": [
            [r["step"] * batch, math.exp(r["validation_bound"])] for r in rows if "validation_bound" in r
        ],
        "training_loss": [[r["step"] * batch, r["loss"]] for r in rows if "loss" in r],
        "seconds_from_first_start_to_end": round(seconds, 1),
        "machine": machine(device),
    }


def bound_of(trained: Trained, store: TokenStore, *, draws: int) -> Any:
    """The likelihood bound of every validation window, with `draws` noise levels each."""
    device = next(trained.model.parameters()).device
    longest = trained.experiment.data.max_length
    batches = validation_batches(
        store, residues_total=10**9, residues_per_batch=max(longest, 16_384), max_length=longest
    )
    bounds, first = [], 0
    for number, packed in enumerate(batches):
        batch = to_device(packed, number, device)
        bounds.append(
            likelihood_bound(
                trained.log_score(batch.cu_seqlens, batch.max_length),
                batch.tokens,
                batch.cu_seqlens,
                graph=trained.objective.graph,
                noise=trained.objective.noise,
                draws=draws,
                seed=0,
                first_sample=first,
            )
        )
        first += batch.sequences
    return join_bounds(bounds)


def machine(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{os.cpu_count()} CPU cores"
    return f"{name}, torch {torch.__version__}, Python {platform.python_version()}"


# The report.


def write_report(folder: Path, report: dict[str, Any]) -> None:
    """quality.json and quality.svg in the output folder."""
    write_text(folder / "quality.json", json.dumps(report, indent=1) + "\n")
    write_text(folder / "quality.svg", picture(report))


def picture(report: dict[str, Any]) -> str:
    """Validation perplexity over residues, a curve an arm, with the n-gram models as level lines."""
    arms = sorted(report["arms"].items(), key=lambda item: item[1]["perplexity"])
    levels = report["baselines"]
    points = [p for _, arm in arms for p in arm["curve"]]
    right = max((x for x, _ in points), default=1.0)
    # From the first steps, off the scale, a curve comes in through the top.
    ends = [arm["curve"][-1][1] for _, arm in arms]
    top, low = max([*ends, *levels.values()]) + 0.25, min([*ends, *levels.values()]) - 0.1
    height = max(360, 60 + 18 * (len(arms) + len(levels)))
    width = max(840, 690 + 8 * max((len(name) for name, _ in arms), default=0))

    def at(x: float, y: float) -> str:
        return f"{64 + 430 * x / right:.1f},{40 + (height - 80) * (top - max(y, low)) / (top - low):.1f}"

    parts = []
    for fifth in range(math.ceil(5 * low), math.floor(5 * top) + 1):
        x, y = at(0, fifth / 5).split(",")
        parts.append(f'<text x="58" y="{float(y) + 4}" text-anchor="end" fill="#555">{fifth / 5:.1f}</text>')
        parts.append(f'<line x1="{x}" x2="494" y1="{y}" y2="{y}" stroke="#eee"/>')
    for name, level in levels.items():
        x, y = at(0, level).split(",")
        parts.append(f'<line x1="{x}" x2="494" y1="{y}" y2="{y}" stroke="#999" stroke-dasharray="4 4"/>')
        parts.append(f'<text x="500" y="{float(y) + 4}" fill="#555" font-size="11">{level:.2f} {name}</text>')
    for number, (name, arm) in enumerate(arms):
        colour, y = COLOURS[number % len(COLOURS)], 52 + 18 * number
        dash = ' stroke-dasharray="6 3"' if number >= len(COLOURS) else ""
        line = " ".join(at(x, p) for x, p in arm["curve"] if p <= top)
        parts.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="1.8"{dash}/>')
        parts.append(
            f'<line x1="590" x2="612" y1="{y - 4}" y2="{y - 4}" stroke="{colour}" stroke-width="3"{dash}/>'
        )
        known = f" ± {arm['error']:.2f}" if arm["error"] > 0.05 else ""
        parts.append(f'<text x="618" y="{y}">{arm["perplexity"]:.2f}{known}  {escape(name)}</text>')
    machines = " · ".join(sorted({arm["machine"] for _, arm in arms}))
    foot = f"0 to {right / 1e6:,.3g} million residues · {report['data']['file']} · {machines}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'font-family="sans-serif" font-size="13">'
        f'<rect width="100%" height="100%" fill="white"/>'
        f'<text x="16" y="24" font-size="16">Validation perplexity over residues of training</text>'
        f'{"".join(parts)}<text x="64" y="{height - 14}" fill="#555" font-size="11">{escape(foot)}</text></svg>\n'
    )


if __name__ == "__main__":
    sys.exit(main())
