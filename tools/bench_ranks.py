"""How much faster do several GPUs evaluate and sample? Both tasks, by 1, 2, … ranks of this host.

    python tools/bench_ranks.py RUN|CKPT --gpus 1,2
    python tools/bench_ranks.py RUN|CKPT --gpus 1,2 --device cpu --batch 2000 --proteins 60 --samples 40 --steps 16

Printed are parts per second, counted after the first part of each rank, which loads libraries and records graphs; how
many times those of the first number of ranks; and whether the results are the same, byte for byte. Proteins to
evaluate are those of --fasta; where more are asked for, they are shuffled. A rank on the CPU has one thread.
"""

import argparse
import dataclasses
import hashlib
import itertools
import os
import platform
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from _ranks import start_ranks

from sedd.data.records import read_records
from sedd.inference.load_network import Trained, find_trained
from sedd.inference.work import WORK, Job
from sedd.rundir.find import runs_root
from sedd.rundir.layout import RunDir, create_run
from sedd.spec.load import dump_resolved, load_resolved
from sedd.spec.tasks import TASKS
from sedd.training.distributed import Ranks, choose_device

PROTEINS = Path(__file__).resolve().parents[1] / "jobs/data/uniprot2k.fasta.gz"
PARTS = {"evaluate": "bound-0", "sample": "samples"}
"""By task, the name of its parts."""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("network", metavar="RUN|CKPT")
    parser.add_argument("--gpus", type=numbers, default=[1, 2], help="numbers of ranks, as 1,2,4")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--tasks", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--fasta", type=Path, default=PROTEINS)
    parser.add_argument("--proteins", type=int, default=20_000, help="to evaluate")
    parser.add_argument("--draws", type=int, default=24)
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--length", type=int, default=400, help="of samples, in residues")
    parser.add_argument("--steps", type=int, default=96)
    parser.add_argument("--batch", type=int, help="residues of a part, where not as many as fill the device")
    parser.add_argument("--rank-of", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank_of:
        work_as_rank(RunDir(options.rank_of), options)
        return 0
    if options.device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    elif torch.cuda.device_count() < max(options.gpus):
        parser.error(f"there are {torch.cuda.device_count()} GPUs here; --device cpu needs none")
    print(f"python {' '.join(sys.argv)}")
    print(f"{machine(options.device)}, {os.cpu_count()} cores, torch {torch.__version__}", flush=True)
    network = find_trained(options.network, runs_root(), notify=print).absolute()
    with tempfile.TemporaryDirectory() as folder:
        fasta = Path(folder) / "proteins.fasta"
        fasta.write_text("".join(f">{n}\n{text}\n" for n, text in enumerate(proteins(options))))
        for task in options.tasks:
            compare(task, asked(task, network, fasta, options), Path(folder), options.gpus)
    return 0


def numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def machine(device: str) -> str:
    return torch.cuda.get_device_name(0) if device == "cuda" else platform.processor() or platform.machine()


def proteins(options: argparse.Namespace) -> Iterator[str]:
    """Those of the file, then the same with their residues in other orders, as many as are asked for."""
    texts, source = [record.text for record in read_records(options.fasta)], random.Random(0)
    shuffled = ("".join(source.sample(text, len(text))) for text in itertools.cycle(texts))
    return itertools.islice(itertools.chain(texts, shuffled), options.proteins)


def asked(task: str, network: Path, fasta: Path, options: argparse.Namespace) -> str:
    """The spec of a task, resolved."""
    sections: dict[str, dict[str, Any]] = {
        "evaluate": {"fasta": [str(fasta)], "draws": options.draws},
        "sample": {
            "count": options.samples,
            "length": options.length,
            "steps": options.steps,
            "report": False,
        },
    }
    section = {"network": str(network), **sections[task]}
    spec = TASKS[task].model_validate({"name": task, "task": task, task: section})
    return dump_resolved(spec)


def compare(task: str, spec: str, folder: Path, sizes: Sequence[int]) -> None:
    """Print a line for each number of ranks."""
    first: tuple[float, str] | None = None
    for size in sizes:
        run = create_run(folder / "runs", task, f"20261122-100000-{size:08x}", spec)
        start_ranks(size, "--rank-of", str(run.path))
        found = parts_per_s(run, task, size), results(run)
        first = first or found
        ratio, is_same = found[0] / first[0], found[1] == first[1]
        print(
            f"{task}: {size} ranks, {found[0]:.3f} parts/s, {ratio:.2f} times as many, "
            f"{'the same files' if is_same else 'OTHER FILES'}",
            flush=True,
        )


def parts_per_s(run: RunDir, task: str, size: int) -> float:
    """Of all ranks together, after the first part of each, by when their files were written."""
    ends = [path.stat().st_mtime for path in sorted(run.parts.glob(f"part-*-{PARTS[task]}-??????.npz"))]
    each = [ends[rank::size] for rank in range(size)]
    if min(map(len, each)) < 2:
        sys.exit(
            f"{task}: {len(ends)} parts are too few for {size} ranks; more proteins, or a smaller --batch"
        )
    return sum((len(own) - 1) / (own[-1] - own[0]) for own in each)


def results(run: RunDir) -> str:
    """A hash of what the task found."""
    files = [run.evaluation, run.table("per_sequence", "csv"), run.samples / "samples.fasta"]
    return hashlib.sha256(b"".join(path.read_bytes() for path in files if path.exists())).hexdigest()


def work_as_rank(run: RunDir, options: argparse.Namespace) -> None:
    """One rank of a task, as a job's process does it."""
    if options.device == "cpu":
        torch.set_num_threads(1)

    class BatchedJob(Job):
        def load(self, network: Path, place: int = 0) -> Trained:
            trained = Job.load(self, network, place)
            return dataclasses.replace(trained, fixed_batch=options.batch or trained.fixed_batch)

    ranks, task = Ranks.from_environment(os.environ), load_resolved(run.spec)
    choose_device(ranks)
    WORK[task.task].do(BatchedJob(run, task, lambda done, of: None, lambda text: None, ranks=ranks))


if __name__ == "__main__":
    sys.exit(main())
