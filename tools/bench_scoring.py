"""Scoring mutants: a whole scan in packed batches against the same network called mutant by mutant.

    python tools/bench_scoring.py [--network RUN|CKPT] [--fasta PROTEIN] [--alone 20] [--method masked]

Without --network a new one of 24 M parameters with weights by chance: the time is the same. Without --fasta the first
protein of 200 to 300 residues of the quickstart's data. One by one, as a loop over mutants would do it, each mutant has
calls of the network to itself; --alone of them, evenly spread, are timed. On two CPU cores some minutes.

To score measured mutants (a CSV with columns mutant and, say, fitness) with a network trained on your own data:

    sedd data build proteins.fasta.gz -o proteins.store
    sedd train spec.yaml                    # or sedd submit; jobs/uniref50_small.yaml is a template: data.store, steps
    sedd score NAME --fasta wild_type.fasta --mutants measured.csv --offset N --measured fitness \\
        --method masked --method wild_type --method orders --method bound -o scores.csv --page scores.html --json
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import torch

from sedd.data.records import Record, read_records
from sedd.inference.load_network import Trained, find_trained, load_trained
from sedd.inference.score import score_part, score_table
from sedd.inference.variants import scan
from sedd.model.transformer import Transformer
from sedd.rundir.find import runs_root
from sedd.spec.experiment import Experiment
from sedd.spec.inference import ScoreOptions
from sedd.spec.load import dump_resolved

PROTEINS = Path(__file__).parents[1] / "jobs/data/uniprot2k.fasta.gz"
LEAST = 10.0
"""How much faster packing must be."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--network")
    parser.add_argument("--fasta", type=Path)
    parser.add_argument("--alone", type=int, default=20)
    parser.add_argument("--method", default="masked", choices=["masked", "wild_type", "orders", "bound"])
    parser.add_argument("--hidden", type=int, default=512, help="width of the new network")
    parser.add_argument("--residues", type=int, help="cut the protein to this many")
    options = parser.parse_args()
    trained, protein = network(options), wild_type(options)
    how = ScoreOptions(methods=(options.method,))
    table = scan([protein])
    count, device = len(table.variants), trained.device
    score_part(
        trained.denoiser(), table.variants[:1], how, longest=trained.longest
    )  # the first call compiles
    began = clock(device)
    score_table(trained, table, how)
    packed_s = clock(device) - began
    some = table.variants[:: max(1, count // options.alone)][: options.alone]
    began = clock(device)
    for one in some:
        score_part(trained.denoiser(), [one], how, longest=trained.longest)
    alone_s = (clock(device) - began) / len(some) * count
    ratio = alone_s / packed_s
    print(f"{options.method}: {count} mutants of {len(protein.text)} residues on {device}")
    print(
        f"packed {packed_s:.1f} s; one by one {alone_s:.1f} s (from {len(some)}): {ratio:.1f} times as fast"
    )
    return 0 if ratio >= LEAST else 1


def network(options: argparse.Namespace) -> Trained:
    """The named network, or a new one."""
    if options.network:
        return load_trained(find_trained(options.network, runs_root(), notify=print))
    experiment = Experiment.model_validate(
        {
            "name": "bench",
            "data": {"store": "none"},
            "model": {"hidden": options.hidden},
            "training": {"steps": 1},
        }
    )
    torch.manual_seed(0)
    state = Transformer(experiment.model).state_dict()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.pt"
        about = {"format": 1, "run": "bench/0", "step": 0, "data_hash": "none", "ema": {"averages": {}}}
        shape = {"length_quantiles": [300] * 1001, "composition": [0] * 4 + [1] * 20 + [0] * 9}
        torch.save({**about, **shape, "spec": dump_resolved(experiment), "model": state}, path)
        return load_trained(path)


def wild_type(options: argparse.Namespace) -> Record:
    """The protein to scan."""
    records = read_records(options.fasta or PROTEINS)
    found = next(records) if options.fasta else next(r for r in records if 200 <= len(r.text) <= 300)
    return Record(found.name, found.text[: options.residues])


def clock(device: torch.device) -> float:
    """Seconds, when the device has done what it was asked."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


if __name__ == "__main__":
    sys.exit(main())
