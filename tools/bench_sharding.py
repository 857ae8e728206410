"""Measure `training.shard`: one card with all, then several with a share each; speed, memory, bits.

On one rank `none`; on `--ranks` ranks each of `--arms`: this many steps, a checkpoint in the middle, written by all
ranks at once; the same from the start once more (the same bits?); and from the checkpoint on (the same bits?). Memory
is the peak of what torch allocated beside what preflight predicts less CUDA's own. On CPUs gloo exchanges, and memory
is left out. `--quick` is a tiny network.

python tools/bench_sharding.py jobs/uniref50_650m.yaml --ranks 2
"""

import argparse
import gc
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from _ranks import start_ranks

from sedd.data.batches import Batches, longest_first
from sedd.data.build import build_store
from sedd.data.store import TokenStore
from sedd.preflight.read.footprint import gpu_bytes
from sedd.spec.build import BuildOptions
from sedd.spec.experiment import Experiment
from sedd.spec.load import load_request
from sedd.training.checkpoint_file import checkpoint_path, open_checkpoint, write_checkpoint
from sedd.training.distributed import Group, Ranks, connected
from sedd.training.loader import to_device
from sedd.training.network import build_network
from sedd.training.precision import capability_of, choose_precision
from sedd.training.sharding.rows import leaves
from sedd.training.sharding.shards import find_shards
from sedd.training.sharding.writer import ShardWriter
from sedd.training.train_state import TrainState, fresh_state
from sedd.training.update import Update

PROTEINS = Path(__file__).resolve().parents[1] / "jobs/data/uniprot2k.fasta.gz"
GIB, CONTEXT_GIB = 1 << 30, 0.75
TINY = {"hidden": 64, "cond": 32, "blocks": 3, "heads": 4}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("spec", type=Path)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--arms", nargs="+", default=["none", "optimizer", "full"])
    parser.add_argument("--residues", type=int, help="of a micro-batch; default: the spec's")
    parser.add_argument("--micro-batches", type=int, default=1, help="of a step, on each rank")
    parser.add_argument("--precision", help="default: fp16 on a GPU, as on a V100")
    parser.add_argument("--steps", type=int, default=3, help="before the checkpoint, and after it")
    parser.add_argument("--timed", type=int, default=10, help="steps that are timed")
    parser.add_argument("--set", nargs="*", default=[], help="training fields: optimizer=muon")
    parser.add_argument("--quick", action="store_true", help="a tiny network")
    parser.add_argument("--folder", type=Path, help="for checkpoints; default: a temporary one")
    parser.add_argument("--store", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments)
        return
    print(f"python {' '.join(sys.argv)}", flush=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        store = Path(folder) / "store"
        build_store([PROTEINS], store, BuildOptions())
        cut = [arm for arm in arguments.arms if arm != "none"]
        groups = [(1, ["none"])] * ("none" in arguments.arms) + [(arguments.ranks, cut)] * bool(cut)
        for ranks, arms in groups:
            start_ranks(ranks, "--store", str(store), "--worker", ",".join(arms))


def work(arguments: argparse.Namespace) -> None:
    """One rank: an arm after the other."""
    ranks = Ranks.from_environment(os.environ)
    device = ranks.device()
    if device.type == "cpu":
        torch.set_num_threads(1)
    with connected(ranks, device) as group:
        writer = ShardWriter(ranks) if ranks.size > 1 else None
        for arm in arguments.worker.split(","):
            row = measure(arguments, arm, ranks, device, group, writer)
            if ranks.is_first:
                print(json.dumps(row), flush=True)


@dataclass
class Training:
    """A network in training, and where it is."""

    state: TrainState
    step: Callable[[], torch.Tensor]


def measure(
    arguments: argparse.Namespace,
    arm: str,
    ranks: Ranks,
    device: torch.device,
    group: Group,
    writer: ShardWriter | None,
) -> dict[str, Any]:
    """One arm: what it takes, how fast it is, and whether its bits are the same."""
    experiment, folder = experiment_for(arguments, arm, ranks, device), Path(arguments.store).parent / arm
    folder.mkdir(exist_ok=True)
    began = time.perf_counter()
    training = begin(arguments, experiment, ranks, device)
    row: dict[str, Any] = {"shard": arm, "ranks": ranks.size, "device": name_of(device)}
    row |= {"torch": torch.__version__, "built_s": round(time.perf_counter() - began, 1)}
    run(training, arguments.steps)
    if writer is not None:
        row["saved_s"], row["gb"] = save(training.state, folder, writer)
    run(training, arguments.steps)
    expected = digest(training.state, ranks, device)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    group.barrier()
    clock = time.perf_counter()
    run(training, arguments.timed)
    wait(device)
    seconds = time.perf_counter() - clock
    row["residues_per_s"] = round(arguments.timed * experiment.training.residues_per_step / seconds)
    row |= memory(experiment, device)
    if writer is not None:
        del training
        release(device)
        training = begin(arguments, experiment, ranks, device)
        run(training, 2 * arguments.steps)
        row["same_bits_again"] = digest(training.state, ranks, device) == expected
        path, clock = checkpoint_path(folder, arguments.steps), time.perf_counter()
        training.state.load_state_dict(open_checkpoint(path, part=ranks.rank))
        row["loaded_s"] = round(time.perf_counter() - clock, 1)
        run(training, arguments.steps)
        row["same_bits_resumed"] = digest(training.state, ranks, device) == expected
    del training
    release(device)
    return row


def begin(
    arguments: argparse.Namespace, experiment: Experiment, ranks: Ranks, device: torch.device
) -> Training:
    """A fresh network, and a function that takes its next step: of each step the same proteins whenever it is taken."""
    spec, data = experiment.training, experiment.data
    precision = choose_precision(spec.precision, capability_of(device))
    network = build_network(experiment, ranks, precision, device)
    state = fresh_state(network.model, spec, precision, shards=find_shards(network.model, spec, ranks))
    update = Update(experiment, network, ranks)
    batches = Batches(
        TokenStore.open(data.store), max_length=data.max_length, residues=spec.micro_batch_residues, seed=0
    )
    few = [
        [
            to_device(longest_first(batches.micro_batch(n)), n, device)
            for n in range(
                turn * spec.micro_batches_per_step + ranks.rank,
                (turn + 1) * spec.micro_batches_per_step,
                ranks.size,
            )
        ]
        for turn in range(4)
    ]
    if network.regroups:  # as the training loop does
        update.accumulate_gradient(state, few[0][:1], step=0)
        state.drop_gradients()
    return Training(state, lambda: update(state, few[state.step % len(few)]))


def run(training: Training, steps: int) -> None:
    for _ in itertools.repeat(None, steps):
        training.step()


def save(state: TrainState, folder: Path, writer: ShardWriter) -> tuple[float, float]:
    """Seconds and GB of a checkpoint that all ranks write at once."""
    began = time.perf_counter()
    parts = {"format": 1, "data_hash": "", **state.state_dict()}
    write: Any = writer if state.shards is not None else write_checkpoint
    seal = write(folder, state.step, parts, before_publishing=lambda: None)
    return round(time.perf_counter() - began, 1), round(seal.total_bytes / 1e9, 2)


def digest(state: TrainState, ranks: Ranks, device: torch.device) -> list[int]:
    """Numbers that change with any bit of weights, averages and moments of any rank."""
    total = torch.zeros(2, dtype=torch.int64, device=device)
    for leaf in leaves(state.state_dict()):
        if isinstance(leaf, torch.Tensor) and leaf.dtype == torch.float32:
            for piece in leaf.detach().reshape(-1).view(torch.int32).split(1 << 24):
                place = torch.arange(piece.numel(), device=device) % 65_521 + 1
                total = total * 31 + torch.stack((piece.sum(), (piece * place).sum()))
    if ranks.size > 1:
        each = [torch.zeros_like(total) for _ in range(ranks.size)]
        dist.all_gather(each, total)
        total = torch.cat(each)
    return [int(number) for number in total.tolist()]


def memory(experiment: Experiment, device: torch.device) -> dict[str, Any]:
    """The peak on this card beside the formula's."""
    if device.type != "cuda":
        return {}
    residues = experiment.training.micro_batch_residues
    capability = torch.cuda.get_device_capability(device)
    predicted = gpu_bytes(experiment, residues, capability=capability) / GIB - CONTEXT_GIB
    peak = torch.cuda.max_memory_allocated(device) / GIB
    free, total = torch.cuda.mem_get_info(device)
    return {
        "peak_gib": round(peak, 2),
        "predicted_gib": round(predicted, 2),
        "predicted_to_peak": round(predicted / peak, 3),
        "card_gib": round((total - free) / GIB, 2),
    }


def experiment_for(arguments: argparse.Namespace, arm: str, ranks: Ranks, device: torch.device) -> Experiment:
    """The spec's network on this many ranks, with its own batch on each."""
    (spec,) = load_request(arguments.spec).experiments
    assert isinstance(spec, Experiment)
    fields = spec.model_dump(mode="json")
    residues = arguments.residues or (512 if arguments.quick else spec.training.micro_batch_residues)
    fields["data"] = {"store": str(arguments.store), "max_length": min(512, residues)}
    fields["model"] |= TINY if arguments.quick else {}
    fields["training"] |= {
        "shard": arm,
        "residues_per_gpu": residues,
        "residues_per_step": residues * ranks.size * arguments.micro_batches,
        "precision": arguments.precision or ("fp16" if device.type == "cuda" else "fp32"),
        "cuda_graphs": False,
        # As on a V100: flash has other bits each time.
        "attention": "tiled" if device.type == "cuda" else "auto",
        "warmup_steps": 10,
        "steps": 1000,
    } | dict(pair.split("=", 1) for pair in arguments.set)
    fields["resources"] |= {
        "nodes": 1,
        "gpus_per_node": ranks.size if device.type == "cuda" else 0,
        "processes_per_node": ranks.size,
    }
    return Experiment.model_validate(fields)


def name_of(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"


def release(device: torch.device) -> None:
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


if __name__ == "__main__":
    main()
