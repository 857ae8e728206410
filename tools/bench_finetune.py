"""Does a fine-tuned network know a protein family better than its parent, and than one that saw the family alone?

    python tools/bench_finetune.py FAMILY.a3m.gz… --proteins proteins.fasta.gz --clusters clusters.tsv -o OUT

A parent is trained on the proteins without relatives of the families. Each family is split by similarity into train,
validation and test. For every arm and seed the checkpoint with the best bound on the family's validation set is judged
on the test set, all on the same noise. OUT gets finetune.json and finetune.md.

    python tools/bench_finetune.py --tiny -o /tmp/finetune      proves on a CPU, in a minute, that all of it works
"""

import argparse
import hashlib
import json
import multiprocessing
import platform
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _relatives import (
    Family,
    read_clusters,
    read_family,
    read_proteins,
    without_relatives,
    write_fasta,
    write_sides,
)
from numpy.typing import NDArray

from sedd.data.build import build_store
from sedd.data.records import read_records
from sedd.inference.evaluation import evaluate
from sedd.inference.evaluation import read_proteins as to_evaluate
from sedd.inference.load_network import load_trained
from sedd.rundir.atomic import write_text
from sedd.rundir.layout import RunDir, create_run
from sedd.spec.build import BuildOptions
from sedd.spec.experiment import Experiment
from sedd.spec.inference import EvaluateOptions
from sedd.spec.load import dump_resolved
from sedd.training.checkpoint_file import checkpoint_path, newest_whole
from sedd.training.distributed import Ranks
from sedd.training.loop import train
from sedd.training.metrics import read_metrics
from sedd.training.stop import StopFlag

DATA = Path(__file__).resolve().parents[1] / "jobs/data"
ARMS: dict[str, dict[str, Any]] = {
    "from scratch": {"optimizer": "muon", "learning_rate": 1e-3},
    "fine-tuned": {"learning_rate": 2e-4},
    "LoRA, rank 16": {"learning_rate": 2e-3, "lora": {"rank": 16, "alpha": 32}},
}
"""Arm → what differs from `recipe`; all but the first start from the parent."""
SCRATCH = "from scratch"
MODEL = {"hidden": 512, "cond": 256, "blocks": 6, "heads": 8, "dropout": 0.1}
TINY = {"hidden": 32, "cond": 16, "blocks": 2, "heads": 2, "dropout": 0.1}


def main() -> int:
    arguments = parse_arguments()
    began = time.monotonic()
    arguments.output.mkdir(parents=True, exist_ok=True)
    families = [read_family(path, limit=arguments.limit) for path in arguments.families]
    parent, about = trained_parent(arguments, families)
    print(f"parent after {time.monotonic() - began:.0f} s: {about}", flush=True)
    found = tuned_families(arguments, families, parent)
    report = {"machine": machine(arguments), "parent": about, "families": found}
    write_text(arguments.output / "finetune.json", json.dumps(report, indent=1) + "\n")
    write_text(arguments.output / "finetune.md", render(report))
    print(render(report), f"{time.monotonic() - began:.0f} s in all", sep="\n", flush=True)
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("families", type=Path, nargs="*", help="alignments, a3m")
    parser.add_argument("--proteins", type=Path, default=DATA / "uniprot2k.fasta.gz", help="of the parent")
    parser.add_argument(
        "--clusters", type=Path, default=DATA / "uniprot2k_clusters.tsv", help="representative<tab>member"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of results and runs")
    parser.add_argument("--parent-residues", type=float, help="trained on by the parent (default 120e6)")
    parser.add_argument(
        "--steps", type=int, help="of a fine-tuning; from scratch twice as many (default 300)"
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--draws", type=int, default=16, help="noise levels a protein of the test")
    parser.add_argument("--limit", type=int, help="sequences of each family")
    parser.add_argument("--parallel", type=int, default=1, help="families at a time, on one GPU")
    parser.add_argument(
        "--device", choices=["cuda", "cpu"], default="cuda" if torch.cuda.is_available() else "cpu"
    )
    parser.add_argument("--tiny", action="store_true", help="a toy network on a CPU: does everything work?")
    arguments = parser.parse_args()
    if arguments.tiny:
        arguments.device = "cpu"
        arguments.families = arguments.families or [made_family(arguments.output)]
    if not arguments.families:
        parser.error("name an alignment, or --tiny")
    arguments.model = TINY if arguments.tiny else MODEL
    arguments.batch = 2048 if arguments.tiny else 8192
    arguments.steps = arguments.steps or (12 if arguments.tiny else 300)
    arguments.parent_residues = arguments.parent_residues or (6e4 if arguments.tiny else 120e6)
    arguments.output = arguments.output.absolute()
    return arguments


def made_family(folder: Path) -> Path:
    """An alignment of sequences by chance, for --tiny: mutants of five ancestors."""
    random, letters = np.random.default_rng(0), np.array(list("ACDEFGHIKLMNPQRSTVWY"))
    records = []
    for ancestor in random.choice(letters, (8, 60)):
        for _ in range(10):
            mutant = np.where(random.random(60) < 0.2, random.choice(letters, 60), ancestor)
            records.append(f">m{len(records)}\n{''.join(mutant)}\n")
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "made.a3m", "".join(records))
    return folder / "made.a3m"


# The parent.


def trained_parent(arguments: argparse.Namespace, families: list[Family]) -> tuple[Path, dict[str, Any]]:
    """The parent's run folder, trained on the proteins that are no relatives of the families; and about it."""
    proteins, cluster_of = read_proteins(arguments.proteins), read_clusters(arguments.clusters)
    kept, left_out = without_relatives(proteins, cluster_of, families)
    folder = arguments.output / "parent"
    folder.mkdir(exist_ok=True)
    write_fasta(folder / "proteins.fasta", (proteins[name] for name in kept))
    held_out = [
        int(hashlib.sha256(cluster_of.get(name, name).encode()).hexdigest(), 16) % 100 < 5 for name in kept
    ]
    store = built(folder, held_out)
    batch = 4 * arguments.batch
    steps = max(1, round(arguments.parent_residues / batch))
    training = {
        "steps": steps,
        "residues_per_step": batch,
        "residues_per_gpu": batch,
        "optimizer": "muon",
        "learning_rate": 1e-3,
        "warmup_steps": max(1, steps // 20),
        "ema_decay": 0.999,
        "log_every_steps": max(1, steps // 20),
        "validation": {"every_steps": max(1, steps // 4), "residues": 65_536},
        "checkpoint": {"every_steps": steps, "keep": 1},
    }
    run = trained(arguments, "parent", store, training, seed=0)
    last = read_metrics(run.metrics)[-1]
    return run.path, {
        "proteins": len(kept),
        "left_out": left_out,
        "residues": steps * batch,
        "bound": last["validation_bound"],
    }


def built(folder: Path, held_out: list[bool]) -> Path:
    """The store of a folder's proteins.fasta."""
    write_sides(folder / "sides.tsv", held_out)
    options = BuildOptions(clusters=folder / "sides.tsv", validation_fraction=0.5, keep_duplicates=True)
    build_store([folder / "proteins.fasta"], folder / "proteins.store", options, workers=1)
    return folder / "proteins.store"


def trained(
    arguments: argparse.Namespace, name: str, store: Path, training: dict[str, Any], *, seed: int
) -> RunDir:
    """A complete run."""
    experiment = Experiment.model_validate(
        {
            "name": name,
            "seed": seed,
            "data": {"store": str(store), "max_length": 128 if arguments.tiny else 512},
            "model": arguments.model,
            "training": training,
            "resources": {"gpus_per_node": int(arguments.device == "cuda"), "cpus_per_process": 2},
            "tracking": {"wandb": "disabled"},
        }
    )
    run = create_run(arguments.output / "runs", name, f"seed-{seed}", dump_resolved(experiment))
    write_text(run.manifest, json.dumps({"created": "2026-11-29T00:00:00+00:00"}))
    train(run, attempt=1, ranks=Ranks(), stop=StopFlag(), notify=lambda text: None)
    return run


# The families.


def tuned_families(
    arguments: argparse.Namespace, families: list[Family], parent: Path
) -> list[dict[str, Any]]:
    """What was found of each, one after the other or `--parallel` at a time."""
    if arguments.parallel == 1:
        return [tune(arguments, family, parent) for family in families]
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.parallel, mp_context=context) as pool:
        waiting = [pool.submit(tune, arguments, family, parent) for family in families]
        return [each.result() for each in waiting]


def tune(arguments: argparse.Namespace, family: Family, parent: Path) -> dict[str, Any]:
    """All arms and seeds of a family, judged on its test set beside the parent."""
    folder = arguments.output / family.name
    folder.mkdir(exist_ok=True)
    write_fasta(folder / "proteins.fasta", family.of_side("train", "validation"))
    write_fasta(folder / "test.fasta", family.of_side("test"))
    store = built(folder, [side == "validation" for side in family.sides if side != "test"])
    newest = newest_whole(RunDir(parent).checkpoints)
    assert newest is not None
    lengths, theirs = judged(arguments, newest, folder / "test.fasta")
    arms: dict[str, Any] = {"parent": summary(lengths, [theirs], theirs)}
    for arm, changes in ARMS.items():
        began, runs = time.monotonic(), []
        for seed in range(arguments.seeds):
            runs.append(
                judged_run(arguments, folder, store, parent, f"{family.name}-{slug(arm)}", changes, seed)
            )
        arms[arm] = summary(lengths, [nats for nats, _ in runs], theirs)
        arms[arm] |= {"best_steps": [about["step"] for _, about in runs]}
        if "forgotten" in runs[0][1]:
            arms[arm]["forgotten"] = float(np.mean([about["forgotten"] for _, about in runs]))
        print(f"{family.name}, {arm}: {arms[arm]}, {time.monotonic() - began:.0f} s", flush=True)
    counts = {side: len(family.of_side(side)) for side in ("train", "validation", "test")}
    return {"name": family.name, "identity": family.identity, **counts, "arms": arms}


def judged_run(
    arguments: argparse.Namespace,
    folder: Path,
    store: Path,
    parent: Path,
    name: str,
    changes: dict[str, Any],
    seed: int,
) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Train an arm; the nats of each test protein at its best step on the validation set, and about it."""
    is_scratch = changes is ARMS[SCRATCH]
    steps = arguments.steps * (2 if is_scratch else 1)
    every = max(1, steps // 5)
    training = {
        "steps": steps,
        "residues_per_step": arguments.batch,
        "residues_per_gpu": arguments.batch,
        "warmup_steps": steps // 10,
        "ema_decay": 0.98,
        "log_every_steps": every,
        "validation": {"every_steps": every, "residues": 262_144},
        "checkpoint": {"every_steps": every, "keep": 100},
        **({} if is_scratch else {"init": str(parent)}),
        **changes,
    }
    run = trained(arguments, name, store, training, seed=seed)
    rows = [row for row in read_metrics(run.metrics) if "validation_bound" in row]
    best = min(rows, key=lambda row: row["validation_bound"])
    _, nats = judged(arguments, checkpoint_path(run.checkpoints, int(best["step"])), folder / "test.fasta")
    about = {"step": int(best["step"])}
    if not is_scratch:
        about["forgotten"] = best["parent_validation_bound"] - rows[0]["parent_validation_bound"]
    shutil.rmtree(run.path)  # a gigabyte or two each
    return nats, about


def judged(
    arguments: argparse.Namespace, checkpoint: Path, fasta: Path
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Residues of each protein, and its bound in nats."""
    network = load_trained(checkpoint, torch.device(arguments.device))
    proteins = to_evaluate(read_records(fasta), longest=network.longest)
    how = EvaluateOptions(draws=arguments.draws, seed=1)
    bound = evaluate(network, proteins, how=how, progress=lambda done: None).bound
    return bound.residues.double().cpu().numpy(), bound.nats.double().cpu().numpy()


def summary(
    lengths: NDArray[np.float64], seeds: list[NDArray[np.float64]], theirs: NDArray[np.float64]
) -> dict[str, Any]:
    """Nats a residue of the test set: mean and standard deviation over seeds; and less than the parent's, paired."""
    each = [float(nats.sum() / lengths.sum()) for nats in seeds]
    gained = theirs - np.mean(seeds, axis=0)
    rate = gained.sum() / lengths.sum()
    proteins = len(lengths)
    error = np.sqrt(((gained - rate * lengths) ** 2).sum() * proteins / max(1, proteins - 1)) / lengths.sum()
    return {
        "nats": float(np.mean(each)),
        "over_seeds": float(np.std(each, ddof=1)) if len(each) > 1 else 0.0,
        "gained": float(rate),
        "gained_error": float(error),
    }


def slug(text: str) -> str:
    return "-".join(text.replace(",", "").split())


# The table.


def render(report: dict[str, Any]) -> str:
    """Markdown."""
    parent, machine_ = report["parent"], report["machine"]
    lines = [
        f"Parent: {parent['proteins']:,} proteins ({parent['left_out']:,} relatives left out), "
        f"{parent['residues'] / 1e6:.0f} million residues, validation bound {parent['bound']:.4f}. {machine_}",
        "",
        "| family, arm | nats a residue | perplexity | gained on the parent | forgotten |",
        "|---|---|---|---|---|",
    ]
    for family in report["families"]:
        counts = f"{family['train']} / {family['validation']} / {family['test']} sequences"
        lines.append(f"| **{family['name']}**, {counts}, identity < {family['identity']:.0%} | | | | |")
        for arm, found in family["arms"].items():
            spread = f" ± {found['over_seeds']:.3f}" if arm != "parent" else ""
            gained = f"{found['gained']:.3f} ± {found['gained_error']:.3f}" if arm != "parent" else ""
            forgotten = f"{found['forgotten']:+.3f}" if "forgotten" in found else ""
            lines.append(
                f"| {arm} | {found['nats']:.3f}{spread} | {np.exp(found['nats']):.2f} | {gained} | {forgotten} |"
            )
    return "\n".join(lines) + "\n"


def machine(arguments: argparse.Namespace) -> str:
    where = torch.cuda.get_device_name() if arguments.device == "cuda" else platform.machine()
    return f"{where}, torch {torch.__version__}; {' '.join(sys.argv[1:])}"


if __name__ == "__main__":
    sys.exit(main())
