"""Conditional samples of real families: are they of the family that was asked for?

    python tools/bench_conditions.py --fasta proteins.fasta.gz --clusters clusters.tsv [--tiny] [--json FILE]

Clusters of --least and more members are labels. Half of each cluster's members train the network with their labels,
beside all other proteins, which have none; the other half, which the network never sees, trains a classifier (naive
Bayes on k-mers) and is what the likelihood bound is measured on. The same number of proteins is drawn under each label,
of lengths that do not depend on it, at several weights of guidance; the share that the classifier gives to their own
label is told beside the base rate: what samples without a condition get, which is one in the number of labels.

The classifier itself is checked on the real proteins that trained the network. --tiny: seconds on a CPU, and a check
of the script alone. Exits with 1 unless at one of the weights samples are of their label at three times the base rate.
"""

import argparse
import json
import math
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sedd.data.build import build_store
from sedd.data.clusters import mmseqs_name
from sedd.data.records import Record, read_records
from sedd.design.given import Given
from sedd.inference.evaluation import evaluate, read_proteins
from sedd.inference.generation import draw_samples
from sedd.inference.load_network import Trained, load_trained
from sedd.rundir.layout import create_run
from sedd.spec.build import BuildOptions
from sedd.spec.conditions import GuidanceOptions
from sedd.spec.experiment import Experiment
from sedd.spec.inference import EvaluateOptions, SampleOptions
from sedd.spec.load import dump_resolved
from sedd.training.distributed import Ranks
from sedd.training.loop import train
from sedd.training.stop import StopFlag

LETTERS = "ACDEFGHIKLMNPQRSTVWY"
LEAST = 3.0
"""How many times the base rate conditional samples must reach."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fasta", type=Path, required=True)
    parser.add_argument("--clusters", type=Path, required=True, help="representative<tab>member")
    parser.add_argument("--least", type=int, default=20, help="members of a cluster that is a label")
    parser.add_argument("--steps", type=int, default=2000, help="of 131,072 residues")
    parser.add_argument("--count", type=int, default=20, help="samples a label and weight")
    parser.add_argument("--every", type=int, default=1, help="train on every N-th of the unlabelled proteins")
    parser.add_argument("--weights", default="0,1,2,4")
    parser.add_argument("--graph", default="absorbing", choices=["absorbing", "uniform"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tiny", action="store_true", help="a network and a training of seconds")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        found = measure(options, Path(scratch))
    print(text := json.dumps(found, indent=1))
    if options.json:
        options.json.write_text(text + "\n")
    print_table(found)
    return 0 if max(row["times_base_rate"] for row in found["weights"].values()) >= LEAST else 1


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Everything that is told, as one document."""
    labels = read_labels(options.clusters, options.least)
    trains, holds, others = shared_out(options.fasta, labels)
    families = sorted({label for label, _ in holds})
    classifier = Classifier(families, holds)
    began = time.perf_counter()
    trained = train_network(options, folder, trains, others)
    training_s = time.perf_counter() - began
    found: dict[str, Any] = {
        "labels": len(families),
        "labelled": len(trains),
        "held_out": len(holds),
        "unlabelled": len(others[:: options.every]),
        "base_rate": 1 / len(families),
        "largest_label": max(Counter(label for label, _ in trains).values()) / len(trains),
        "classifier_on_real": share_of_own(classifier, trains),
        "parameters": sum(p.numel() for p in trained.model.parameters()),
        "residues_seen": options.steps * trained.experiment.training.residues_per_step,
        "training_s": round(training_s, 1),
        "device": torch.cuda.get_device_name() if trained.device.type == "cuda" else "cpu",
        "torch": torch.__version__,
        "bound": bounds(trained, holds, tiny=options.tiny),
        "weights": {},
    }
    for text in options.weights.split(","):
        began = time.perf_counter()
        drawn = draw(trained, families, float(text), options)
        rate = share_of_own(classifier, drawn)
        found["weights"][text] = {
            "own_label": rate,
            "standard_error": error_over_labels(classifier, drawn),
            "times_base_rate": rate * len(families),
            "labels_reached": reached(classifier, drawn),
            "composition_kl": composition_kl(trains, drawn),
            "distinct": len({sequence for _, sequence in drawn}) / len(drawn),
            "sampling_s": round(time.perf_counter() - began, 1),
        }
        print(text, found["weights"][text], flush=True)  # what a time limit cuts off is not all of it
    return found


def read_labels(path: Path, least: int) -> dict[str, str]:
    """Member → representative of its cluster, for clusters of at least this many members."""
    pairs = [line.rstrip("\n").split("\t") for line in path.open()]
    sizes = Counter(representative for representative, _ in pairs)
    return {member: representative for representative, member in pairs if sizes[representative] >= least}


Labelled = list[tuple[str, str]]
"""Label and sequence."""


def shared_out(fasta: Path, labels: dict[str, str]) -> tuple[Labelled, Labelled, list[Record]]:
    """Half of each label's proteins to train on, half held out; and those without a label."""
    seen: Counter[str] = Counter()
    trains, holds, others = [], [], []
    known = set()
    for record in read_records(fasta):
        label = labels.get(mmseqs_name(record.name.split()[0].encode()).decode())
        if record.text in known:  # a copy would be on both sides
            continue
        known.add(record.text)
        if label is None:
            others.append(record)
            continue
        (trains if seen[label] % 2 == 0 else holds).append((label, record.text))
        seen[label] += 1
    return trains, holds, others


def train_network(
    options: argparse.Namespace, folder: Path, trains: Labelled, others: list[Record]
) -> Trained:
    """A network that was told the labels of the proteins that have one."""
    records = [(f"L{n}", sequence) for n, (_, sequence) in enumerate(trains)]
    records += [
        (f"U{n}", record.text) for n, record in enumerate(others[:: 20 if options.tiny else options.every])
    ]
    fasta, table = folder / "train.fasta", folder / "labels.tsv"
    fasta.write_text("".join(f">{name}\n{sequence}\n" for name, sequence in records))
    rows = "".join(f"L{n}\t{label}\n" for n, (label, _) in enumerate(trains))
    table.write_text(f"id\tcluster\n{rows}")
    build = BuildOptions(labels=table, validation_fraction=0.02, min_length=2)
    store = build_store([fasta], folder / "store", build).path
    values = len({label for label, _ in trains})
    experiment = Experiment.model_validate(spec_of(options, store, values))
    run = create_run(folder / "runs", "conditions", "bench", dump_resolved(experiment))
    train(run, attempt=1, ranks=Ranks(), stop=StopFlag(), notify=lambda text: print(text, flush=True))
    return load_trained(max(run.checkpoints.glob("*.pt")))


def spec_of(options: argparse.Namespace, store: Path, values: int) -> dict[str, Any]:
    """The spec of the training: that of jobs/uniref50_small.yaml, shorter."""
    conditions = {"drop_all": 0.1, "fields": {"cluster": {"kind": "category", "values": values}}}
    model = {"hidden": 64, "cond": 32, "blocks": 2, "heads": 2} if options.tiny else {}
    residues = 4096 if options.tiny else 131_072
    return {
        "name": "conditions",
        "seed": options.seed,
        "data": {"store": str(store), "max_length": 256 if options.tiny else 512},
        "model": {**model, "conditions": conditions},
        "diffusion": {"graph": options.graph},
        "training": {
            "steps": options.steps,
            "residues_per_step": residues,
            "residues_per_gpu": residues if options.tiny else 65_536,
            "optimizer": "muon",
            "learning_rate": 3e-3 if options.tiny else 1e-3,
            "schedule": "cosine",
            "warmup_steps": max(1, options.steps // 20),
            "ema_decay": 0.99 if options.tiny else 0.999,
            "log_every_steps": max(1, options.steps // 10),
            "validation": {"every_steps": options.steps, "residues": 16_384 if options.tiny else 65_536},
            "checkpoint": {"every_steps": options.steps},
        },
        "resources": {"gpus_per_node": int(torch.cuda.is_available())},
        "tracking": {"wandb": "disabled"},
    }


def draw(trained: Trained, families: list[str], weight: float, options: argparse.Namespace) -> Labelled:
    """The same number of samples under each label, each label with lengths and noise of its own seed."""
    count = 2 if options.tiny else options.count

    def samples(under: Trained, count: int, seed: int) -> list[str]:
        how = SampleOptions(
            count=count,
            length=(60, 100) if options.tiny else (100, 400),
            steps=16 if options.tiny else 128,
            seed=options.seed + seed,
        )
        return [one.sequence for one in draw_samples(under, how, Given(), lambda done, of: None, print)]

    if weight == 0:  # no label enters: all at once
        return list(zip(families * count, samples(trained, count * len(families), 0), strict=True))
    drawn: Labelled = []
    for number, family in enumerate(families):
        under = trained.under({"cluster": family}, GuidanceOptions(guidance=weight), notify=print)
        drawn += [(family, sequence) for sequence in samples(under, count, number)]
    return drawn


def bounds(trained: Trained, holds: Labelled, *, tiny: bool) -> dict[str, float]:
    """Nats a residue of held-out proteins under their own label, under none, and under another one."""
    families = sorted({label for label, _ in holds})
    next_of = dict(zip(families, families[1:] + families[:1], strict=True))
    sums: Counter[str] = Counter()
    residues = 0
    for family in families[: 3 if tiny else None]:
        records = [Record("p", sequence) for label, sequence in holds if label == family]
        proteins = read_proteins(records, longest=trained.longest)
        told = {
            "own_label": {"cluster": family},
            "no_label": {},
            "another_label": {"cluster": next_of[family]},
        }
        for name, condition in told.items():
            how = EvaluateOptions(draws=2 if tiny else 8)
            result = evaluate(
                trained.under(condition, notify=print), proteins, how=how, progress=lambda done: None
            )
            sums[name] += result.bound.nats_per_residue * result.bound.total_residues
        residues += result.bound.total_residues
    return {name: total / residues for name, total in sums.items()} | {"residues": residues}


class Classifier:
    """Naive Bayes: which family's k-mers a sequence has, single residues to triplets, all families equally likely."""

    def __init__(self, families: list[str], proteins: Labelled, longest: int = 3) -> None:
        self.families, self.longest = families, longest
        place = {family: number for number, family in enumerate(families)}
        counts = np.ones((len(families), len(LETTERS) ** longest)) * 0.02
        background = np.ones(len(LETTERS) ** longest)
        for family, sequence in proteins:
            found = self._count(sequence)
            counts[place[family]] += found
            background += found
        # Rare triplets are taken from all families together, as strongly as 1,000 of them.
        background /= background.sum()
        counts += 1000 * background
        self.weights = np.log(counts / counts.sum(1, keepdims=True)) - np.log(background)

    def __call__(self, sequence: str) -> str:
        return self.families[int((self.weights @ self._count(sequence)).argmax())]

    def _count(self, sequence: str) -> np.ndarray:
        codes = np.array([LETTERS.find(letter) for letter in sequence])
        k, n = self.longest, len(LETTERS)
        if len(codes) < k:
            return np.zeros(n**k)
        windows = np.lib.stride_tricks.sliding_window_view(codes, k)
        windows = windows[(windows >= 0).all(1)]
        return np.bincount(windows @ n ** np.arange(k - 1, -1, -1), minlength=n**k).astype(float)


def share_of_own(classifier: Classifier, of: Labelled) -> float:
    """Which share is classified as what it should be, every label counted alike."""
    return float(np.mean(list(by_label(classifier, of).values())))


def error_over_labels(classifier: Classifier, of: Labelled) -> float:
    """Standard error of that share, labels taken as drawn by chance."""
    shares = list(by_label(classifier, of).values())
    return float(np.std(shares, ddof=1) / math.sqrt(len(shares)))


def reached(classifier: Classifier, of: Labelled) -> float:
    """Share of labels of which three times the base rate of samples are classified as theirs."""
    shares = by_label(classifier, of)
    return float(np.mean([share >= LEAST / len(shares) for share in shares.values()]))


def by_label(classifier: Classifier, of: Labelled) -> dict[str, float]:
    hits: dict[str, list[bool]] = {}
    for label, sequence in of:
        hits.setdefault(label, []).append(classifier(sequence) == label)
    return {label: sum(found) / len(found) for label, found in hits.items()}


def composition_kl(real: Labelled, drawn: Labelled) -> float:
    """KL divergence of the samples' residues from the labelled training proteins', nats a residue."""
    p, q = (
        np.array([sum(s.count(letter) for _, s in of) + 1.0 for letter in LETTERS]) for of in (drawn, real)
    )
    p, q = p / p.sum(), q / q.sum()
    return float((p * np.log(p / q)).sum())


def print_table(found: dict[str, Any]) -> None:
    """The same for a reader."""
    print(f"{found['labels']} labels; base rate {found['base_rate']:.4f}; classifier on real proteins "
          f"{found['classifier_on_real']:.3f}")  # fmt: skip
    for weight, row in found["weights"].items():
        print(
            f"guidance {weight}: own label {row['own_label']:.3f} ± {row['standard_error']:.3f}, "
            f"{row['times_base_rate']:.1f} × the base rate; composition KL {row['composition_kl']:.4f}"
        )


if __name__ == "__main__":
    sys.exit(main())
