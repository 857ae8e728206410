"""Measure what `training.reduction: ordered` costs beside all_reduce: the same steps, in turns, on 1, 2, … ranks.

Both arms take the same micro-batches of the same network, a step of one after a step of the other, so that a busy
machine slows both alike. Printed are medians over the steps: seconds by the clock, CPU seconds of rank 0 (of use where
others share the machine), their ratios, and the gradient sums that a rank holds. On GPUs NCCL exchanges.

python tools/bench_reduction.py --ranks 1 2 --micro-batches 8 --steps 20
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from _ranks import start_ranks

from sedd.data.batches import Batches, longest_first
from sedd.data.build import BuildOptions, build_store
from sedd.data.store import TokenStore
from sedd.spec.experiment import Experiment
from sedd.training.distributed import Ranks, connected
from sedd.training.loader import to_device
from sedd.training.network import build_network
from sedd.training.precision import capability_of, choose_precision
from sedd.training.reduction.ordered import buffers_needed
from sedd.training.sharding.shards import find_shards
from sedd.training.train_state import fresh_state
from sedd.training.update import Update

PROTEINS = Path(__file__).resolve().parents[1] / "jobs/data/uniprot2k.fasta.gz"
ARMS = ("all_reduce", "ordered")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--micro-batches", type=int, default=8, help="of a step, over all ranks")
    parser.add_argument("--residues", type=int, default=1024, help="of a micro-batch")
    parser.add_argument("--hidden", type=int, default=128)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.store:
        measure(arguments)
        return
    print(f"python {' '.join([sys.argv[0], *sys.argv[1:]])}")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, torch {torch.__version__}")
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder) / "store"
        build_store([PROTEINS], store, BuildOptions())
        for ranks in arguments.ranks:
            start_ranks(ranks, "--store", str(store))


def measure(arguments: argparse.Namespace) -> None:
    """One rank of a measurement."""
    ranks = Ranks.from_environment(os.environ)
    device = ranks.device()
    torch.set_num_threads(1)
    with connected(ranks, device):
        steps = [make_step(arguments, arm, ranks, device) for arm in ARMS]
        for _ in range(3):
            for step in steps:
                step()
        taken: list[list[tuple[float, float]]] = [[], []]
        for _ in range(arguments.steps):
            for times, step in zip(taken, steps, strict=True):
                clock, cpu = time.perf_counter(), time.process_time()
                step()
                wait(device)
                times.append((time.perf_counter() - clock, time.process_time() - cpu))
    if ranks.is_first:
        print(row(arguments, ranks, device, taken), flush=True)


def row(
    arguments: argparse.Namespace,
    ranks: Ranks,
    device: torch.device,
    taken: list[list[tuple[float, float]]],
) -> str:
    (clock, cpu), (ordered_clock, ordered_cpu) = (
        [statistics.median(times) for times in zip(*arm, strict=True)] for arm in taken
    )
    sums = buffers_needed(arguments.micro_batches, ranks.size)
    return (
        f"{ranks.size} ranks on {device}: all_reduce {clock:.3f} s a step, ordered {ordered_clock:.3f} s, "
        f"ratio {ordered_clock / clock:.3f}; CPU {cpu:.3f} and {ordered_cpu:.3f} s, "
        f"ratio {ordered_cpu / cpu:.3f}; {sums} sums"
    )


def make_step(
    arguments: argparse.Namespace, arm: str, ranks: Ranks, device: torch.device
) -> Callable[[], None]:
    """A function that takes a whole optimiser step."""
    experiment = spec_of(arguments, arm)
    data, parts = experiment.data, arguments.micro_batches
    precision = choose_precision(experiment.training.precision, capability_of(device))
    network = build_network(experiment, ranks, precision, device)
    shards = find_shards(network.model, experiment.training, ranks)
    state = fresh_state(network.model, experiment.training, precision, shards=shards)
    update = Update(experiment, network, ranks)
    store = TokenStore.open(data.store)
    batches = Batches(store, max_length=data.max_length, residues=arguments.residues, seed=0)
    ours = [
        to_device(longest_first(batches.micro_batch(n)), n, device)
        for n in range(ranks.rank, parts, ranks.size)
    ]
    return lambda: void(update(state, ours))


def spec_of(arguments: argparse.Namespace, arm: str) -> Experiment:
    return Experiment.model_validate(
        {
            "name": "bench",
            "data": {"store": str(arguments.store), "max_length": min(512, arguments.residues)},
            "model": {"hidden": arguments.hidden, "cond": 64, "blocks": arguments.blocks, "heads": 4},
            "training": {
                "steps": 1000,
                "residues_per_step": arguments.residues * arguments.micro_batches,
                "residues_per_gpu": arguments.residues,
                "reduction": arm,
                "cuda_graphs": False,
            },
        }
    )


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def void(_: object) -> None:
    return


if __name__ == "__main__":
    main()
