"""What do the samplers of one network draw, at equal calls of it? Beside as many held-out proteins.

    python tools/bench_samplers.py RUN --proteins 1000 --steps 32 128 512 -o samplers.json
    python tools/bench_samplers.py RUN --proteins 8 --steps 4 --samplers plain remask-1      seconds on a CPU

Every sampler draws proteins of the same lengths. Of each set: the likelihood bound under the network that drew it,
divergence of its composition from the training data's, residues in stretches of low complexity, distinct 3-grams, and
identity with the nearest training protein (needs parasail). Prints a table and writes JSON.
"""

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from sedd.data.alphabet import decode, encode
from sedd.data.records import Record
from sedd.data.store import TokenStore
from sedd.errors import SeddError
from sedd.inference.evaluation import evaluate, read_proteins
from sedd.inference.generation import draw_lengths, generate
from sedd.inference.load_network import Trained, find_trained, load_trained
from sedd.inference.sample_report import open_training_data
from sedd.quality.assess import of_the_same_lengths
from sedd.quality.measures import composition, distinct_share, divergence, low_complexity_share
from sedd.quality.neighbours import Neighbours
from sedd.rundir.atomic import write_text
from sedd.rundir.find import runs_root
from sedd.spec.inference import EvaluateOptions, SampleOptions

SAMPLERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "remask-0.5": {"remask": 0.5},
    "remask-1": {"remask": 1.0},
    "remask-3": {"remask": 3.0},
    "remask-10": {"remask": 10.0},
    "confidence": {"order": "confidence"},
    "margin": {"order": "margin"},
    "remask-3-margin": {"remask": 3.0, "order": "margin"},
    "top-p-0.9": {"top_p": 0.9},
    "remask-3-top-p-0.9": {"remask": 3.0, "top_p": 0.9},
}
"""Name → what differs from the present sampler."""
DRAWS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one set of proteins is like."""

    sampler: str
    steps: int | None
    seconds: float | None
    bound: float
    """nats a residue, under the network itself."""
    bound_error: float
    """By which sets of this many proteins differ, and the estimate's own."""
    divergence: float
    """KL(set || training data) of the composition, nats."""
    low_complexity: float
    distinct_3: float
    """Share of 3-grams that are distinct."""
    distinct_proteins: float
    identity: float | None
    """Mean over proteins, with the nearest training protein."""
    copies: float | None
    """Share of proteins with an identity above 0.5."""


def main() -> int:
    options = parse_arguments()
    try:
        trained = load_trained(find_trained(options.run, runs_root(), notify=print))
        store = open_training_data(trained, options.store)
    except SeddError as e:
        print(f"error: {e.message}", file=sys.stderr)
        return e.exit_code
    lengths = draw_lengths(trained, SampleOptions(count=options.proteins, seed=options.seed))
    sets: dict[tuple[str, int | None], tuple[list[str], float | None]] = {}
    if store is not None:
        real = of_the_same_lengths(store.split("validation"), lengths)
        sets["held-out", None] = ([decode(protein) for protein in real], None)
    for steps in options.steps:
        for name in options.samplers:
            how = SampleOptions(count=options.proteins, steps=steps, seed=options.seed, **SAMPLERS[name])
            sets[name, steps] = timed(trained, lengths, how)
            print(f"{name} at {steps} steps: {sets[name, steps][1]:.1f} s", file=sys.stderr)
    identities = {} if store is None else nearest(store, sets, options.workers)
    rows = [
        measured(trained, name, steps, sequences, seconds, identities.get((name, steps)))
        for (name, steps), (sequences, seconds) in sets.items()
    ]
    print(table(rows))
    if options.output is not None:
        about = {
            "run": trained.run, "step": trained.step, "proteins": options.proteins, "residues": sum(lengths),
            "seed": options.seed, "device": device_name(trained.device), "torch": torch.__version__,
        }  # fmt: skip
        write_text(
            options.output, json.dumps({**about, "rows": [asdict(row) for row in rows]}, indent=1) + "\n"
        )
    return 0


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="a run, a checkpoint or an export, of the absorbing graph")
    parser.add_argument("--store", type=Path, help="its training data, where it is no longer there")
    parser.add_argument("--proteins", type=int, default=500)
    parser.add_argument("--steps", type=int, nargs="+", default=[32, 128, 512])
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=list(SAMPLERS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--workers", type=int, default=os.cpu_count() or 1, help="processes that search neighbours"
    )
    parser.add_argument("-o", "--output", type=Path, help="JSON")
    return parser.parse_args()


def timed(trained: Trained, lengths: Sequence[int], how: SampleOptions) -> tuple[list[str], float]:
    """The proteins, and how long drawing them took."""
    began = time.perf_counter()
    sequences = list(generate(trained, lengths, how, lambda done, of: None))
    return sequences, time.perf_counter() - began


def nearest(
    store: TokenStore, sets: Mapping[tuple[str, int | None], tuple[list[str], Any]], workers: int
) -> dict[tuple[str, int | None], list[float]]:
    """Of every protein of every set the identity with the nearest training protein."""
    flat = [sequence for sequences, _ in sets.values() for sequence in sequences]
    shares = [flat[worker::workers] for worker in range(workers)]
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        found = list(pool.map(partial(_identities, store.path), shares))
    all_ = [0.0] * len(flat)
    for worker, values in enumerate(found):
        all_[worker::workers] = values
    edges = np.cumsum([0, *(len(sequences) for sequences, _ in sets.values())])
    return {key: all_[first:stop] for key, first, stop in zip(sets, edges[:-1], edges[1:], strict=True)}


def _identities(store: Path, sequences: Sequence[str]) -> list[float]:
    neighbours = Neighbours(TokenStore.open(store).split("train"))
    return [neighbours.nearest(encode(sequence)).identity for sequence in sequences]


def measured(
    trained: Trained,
    name: str,
    steps: int | None,
    sequences: Sequence[str],
    seconds: float | None,
    identities: Sequence[float] | None,
) -> Row:
    """All measures of one set."""
    proteins = [encode(sequence) for sequence in sequences]
    records = [Record(str(number), sequence) for number, sequence in enumerate(sequences)]
    found = evaluate(
        trained,
        read_proteins(records, longest=trained.longest),
        how=EvaluateOptions(draws=DRAWS),
        progress=lambda done: None,
    )
    return Row(
        sampler=name,
        steps=steps,
        seconds=seconds,
        bound=found.bound.nats_per_residue,
        bound_error=error_of_ratio(found.bound.nats.cpu().numpy(), found.bound.residues.cpu().numpy()),
        divergence=divergence(composition(proteins), trained.composition.numpy()),
        low_complexity=low_complexity_share(proteins),
        distinct_3=distinct_share(proteins, 3),
        distinct_proteins=len(set(sequences)) / len(sequences),
        identity=None if identities is None else float(np.mean(identities)),
        copies=None if identities is None else float(np.mean(np.array(identities) > 0.5)),
    )


def error_of_ratio(nats: NDArray[Any], residues: NDArray[Any]) -> float:
    """Standard error of sum(nats) / sum(residues) over proteins drawn independently."""
    mean = nats.sum() / residues.sum()
    return float(np.sqrt(((nats - mean * residues) ** 2).sum()) / residues.sum())


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    head = "| sampler | steps | bound | KL of composition | low complexity | distinct 3-grams | identity | > 0.5 | s |"

    def cell(value: float | None, form: str) -> str:
        return "" if value is None else format(value, form)

    lines = [head, "|---" * 9 + "|"]
    for row in rows:
        lines.append(
            f"| {row.sampler} | {row.steps or ''} | {row.bound:.3f} ± {row.bound_error:.3f} | {row.divergence:.4f} "
            f"| {row.low_complexity:.1%} | {row.distinct_3:.3f} | {cell(row.identity, '.3f')} "
            f"| {cell(row.copies, '.1%')} | {cell(row.seconds, '.1f')} |"
        )
    return "\n".join(lines)


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or "CPU"


if __name__ == "__main__":
    sys.exit(main())
