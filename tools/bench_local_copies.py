"""Measure what copies of the state on the node cost a step: the same training with them and without, in turns.

Blocks of some seconds with copies (the real saver, every --every seconds) and without follow each other, so that a busy
machine slows both alike; what is being written at a block's end is waited for in it. Printed are seconds a step and CPU
seconds a step (of use where others share the machine; all threads of the process), their ratios as medians over the
pairs of blocks, of which every second has the copies first. The very first copy is made before its cost is known, and
so counts too much in few short blocks: let one be many times as long as the interval.

With --ranks the moments are spread over that many ranks of this machine (training.shard: optimizer), and each copies
its part; rank 0's figures are printed.

python tools/bench_local_copies.py --blocks 4 --seconds 120
python tools/bench_local_copies.py --ranks 2 --blocks 4 --seconds 120
python tools/bench_local_copies.py --device cuda --hidden 512 --layers 6 --residues 32768 --micro-batches 4
"""

import argparse
import os
import platform
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from _ranks import start_ranks

from sedd.data.batches import Batches, longest_first
from sedd.data.build import BuildOptions, build_store
from sedd.data.store import TokenStore
from sedd.rundir.layout import RunDir, create_run
from sedd.rundir.node_folder import entry_name, find_folders, remove_folders
from sedd.spec.experiment import Experiment
from sedd.spec.training import CheckpointSpec
from sedd.training.async_saver import Saver
from sedd.training.cadence import Tier
from sedd.training.distributed import Group, Ranks, connected
from sedd.training.loader import DeviceBatch, to_device
from sedd.training.local_copies import LocalCopies, NodePlace
from sedd.training.network import build_network
from sedd.training.precision import capability_of, choose_precision
from sedd.training.sharding.shards import find_shards
from sedd.training.sharding.writer import ShardWriter
from sedd.training.train_state import TrainState, fresh_state
from sedd.training.update import Update

PROTEINS = Path(__file__).resolve().parents[1] / "jobs/data/uniprot2k.fasta.gz"
NEVER = 10**9
RUN = "20261122-080000-aaaaaaaa"


@dataclass
class Training:
    """A network that takes the same step again and again."""

    update: Update
    state: TrainState
    batches: list[DeviceBatch]
    device: torch.device
    group: Group

    def step(self) -> None:
        self.update(self.state, self.batches)
        float(self.state.loss_sum)  # as a row of metrics does: the host is never far ahead

    def agreed(self, number: int) -> int:
        """Rank 0's number, as the training loop asks after each step where the state is spread."""
        return self.group.first_says(number)

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


@dataclass(frozen=True)
class Block:
    """Of steps: seconds and CPU seconds each, and how many copies were begun meanwhile."""

    seconds: float
    cpu_s: float
    copies: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--hidden", type=int, default=256)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--residues", type=int, default=1024, help="of a micro-batch")
    parser.add_argument("--micro-batches", type=int, default=1, help="of a step")
    parser.add_argument("--every", type=int, default=5, help="seconds between copies")
    parser.add_argument("--blocks", type=int, default=4, help="pairs of blocks")
    parser.add_argument("--seconds", type=float, default=120, help="of a block")
    parser.add_argument("--folder", help="of the node; absent: as in a job")
    parser.add_argument("--ranks", type=int, default=1, help="over which the moments are spread")
    parser.add_argument("--work", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments)
        return
    print(f"python {' '.join([sys.argv[0], *sys.argv[1:]])}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        build_store([PROTEINS], Path(folder) / "store", BuildOptions())
        create_run(Path(folder), "bench", RUN, "name: bench\n")
        start_ranks(arguments.ranks, "--work", folder)


def work(arguments: argparse.Namespace) -> None:
    """One rank."""
    ranks = Ranks.from_environment(os.environ)
    device = ranks.device() if arguments.device == "cuda" else torch.device("cpu")
    with connected(ranks, device) as group:
        training = make_training(arguments, group, device)
        run = RunDir(arguments.work / "bench" / RUN)
        measure(arguments, training, run, NodePlace(entry=entry_name(os.getpid()), folder=arguments.folder))


def measure(arguments: argparse.Namespace, training: Training, run: RunDir, place: NodePlace) -> None:
    spec = CheckpointSpec(every_steps=NEVER, local_every=f"{arguments.every}s")
    ranks = training.group.ranks
    spread = ranks if ranks.size > 1 else None
    local = LocalCopies(run, place, spread, writers=ranks.size)
    pairs = []
    for _ in range(5):
        training.step()
    saver = Saver(
        run, spec, attempt=1, make_rows_durable=nothing, notify=print, local=local,
        writer=ShardWriter(ranks) if spread else None, is_first=ranks.is_first,
    )  # fmt: skip
    saver.prepare(training.state.state_dict())
    saver.wait()
    try:
        for number in range(arguments.blocks):
            # In turns, also of which comes first: a machine drifts, and what the saver keeps is there in both.
            arms = (None, saver) if number % 2 == 0 else (saver, None)
            found = {arm is None: block(training, arm, arguments.seconds) for arm in arms}
            pairs.append((found[True], found[False]))
        saver.close()
        (where,) = find_folders(run.path, place.entry, asked=place.folder, environ=os.environ)
        if ranks.is_first:
            report(training, pairs, where.parent, size=size_of(where))
    finally:
        remove_folders(run.path, place.entry, asked=place.folder, environ=os.environ)


def block(training: Training, saver: Saver | None, seconds: float) -> Block:
    """Steps for some seconds, with copies as the training loop makes them."""
    training.wait()
    began, cpu, steps, copies = time.perf_counter(), time.process_time(), 0, 0
    while training.agreed(time.perf_counter() - began < seconds):
        training.step()
        steps += 1
        due = training.agreed(saver.due(training.state.step) if saver is not None else Tier.NONE)
        if saver is not None and due == Tier.NODE:
            copies += 1
            saver.copy_to_node(training.state.step, training.state.state_dict(), began=time.monotonic())
    if saver is not None:
        saver.wait()
    training.wait()
    return Block((time.perf_counter() - began) / steps, (time.process_time() - cpu) / steps, copies)


def report(training: Training, pairs: list[tuple[Block, Block]], where: Path, *, size: int) -> None:
    count = sum(p.numel() for p in training.state.model.parameters())
    on_gpu = training.device.type == "cuda"
    what = torch.cuda.get_device_name(training.device) if on_gpu else platform.machine()
    ranks = training.group.ranks.size
    print(f"{what}, {os.cpu_count()} cores, torch {torch.__version__}; {count:,} parameters, {ranks} rank(s)")
    without, copied = (
        [statistics.median(value) for value in zip(*[(b.seconds, b.cpu_s) for b in arm], strict=True)]
        for arm in zip(*pairs, strict=True)
    )
    clock = statistics.median(after.seconds / before.seconds for before, after in pairs)
    cpu = statistics.median(after.cpu_s / before.cpu_s for before, after in pairs)
    copies = sum(after.copies for _, after in pairs)
    print(f"{copies} copies of {size / 2**20:.0f} MiB to {where}")
    print(f"a step {without[0]:.4f} s, with copies {copied[0]:.4f} s: ratio {clock:.4f}")
    print(f"CPU of a step {without[1]:.4f} s, with copies {copied[1]:.4f} s: ratio {cpu:.4f}")


def size_of(folder: Path) -> int:
    """Bytes of all files below."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def make_training(arguments: argparse.Namespace, group: Group, device: torch.device) -> Training:
    if device.type == "cpu":
        torch.set_num_threads(1)
    experiment = Experiment.model_validate(
        {
            "name": "bench",
            "data": {"store": str(arguments.work / "store"), "max_length": min(512, arguments.residues)},
            "model": {"hidden": arguments.hidden, "cond": 128, "blocks": arguments.layers, "heads": 8},
            "training": {
                "steps": NEVER,
                "residues_per_step": arguments.residues * arguments.micro_batches * arguments.ranks,
                "residues_per_gpu": arguments.residues,
                "shard": "optimizer" if arguments.ranks > 1 else "none",
            },
            "resources": {"gpus_per_node": 0, "processes_per_node": arguments.ranks},
        }
    )
    precision = choose_precision(experiment.training.precision, capability_of(device))
    ranks, spec = group.ranks, experiment.training
    network = build_network(experiment, ranks, precision, device)
    state = fresh_state(network.model, spec, precision, shards=find_shards(network.model, spec, ranks))
    batches = Batches(
        TokenStore.open(experiment.data.store),
        max_length=experiment.data.max_length,
        residues=arguments.residues,
        seed=0,
    )
    own = range(ranks.rank, arguments.micro_batches * ranks.size, ranks.size)
    ours = [to_device(longest_first(batches.micro_batch(n)), n, device) for n in own]
    return Training(Update(experiment, network, ranks), state, ours, device, group)


def nothing() -> None:
    return


if __name__ == "__main__":
    main()
