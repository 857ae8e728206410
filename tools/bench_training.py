"""Measure whole training steps: our attention paths, the padded batch and the loop over sequences that they replace.

Each arm trains the same network on the same real proteins: forward, backward, clipping, fused AdamW, EMA. Residues per
second count residues, never padding. --v100-legal forbids what a V100 lacks and reads the profiler's kernel names to
prove it; flash is then run as the yardstick that it is, and is not called legal.

python tools/bench_training.py --models 24M,92M --v100-legal --json bench.json --picture bench.svg
"""

import argparse
import functools
import gc
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.nn import functional as F  # noqa: N812 # its usual name

from sedd.data.batches import Batches, longest_first
from sedd.data.build import BuildOptions, build_store
from sedd.data.store import TokenStore
from sedd.model.attention import IMPLEMENTATIONS, is_legal
from sedd.model.fused import launch
from sedd.model.nvrtc import KernelError, compile_ptx
from sedd.spec.experiment import Experiment
from sedd.training.distributed import Ranks, connected
from sedd.training.loader import DeviceBatch, to_device
from sedd.training.network import build_network
from sedd.training.precision import capability_of, choose_precision
from sedd.training.train_state import fresh_state
from sedd.training.update import Update

PROTEINS = Path(__file__).resolve().parents[1] / "jobs/data/uniprot2k.fasta.gz"
MODELS = {
    "tiny": {"hidden": 32, "cond": 16, "blocks": 2, "heads": 2},
    "24M": {"hidden": 512, "cond": 256, "blocks": 6, "heads": 8},
    "67M": {"hidden": 768, "cond": 256, "blocks": 8, "heads": 12},
    "92M": {"hidden": 768, "cond": 128, "blocks": 12, "heads": 12},
}
OURS = ("efficient", "tiled", "flash")
UNFUSED = "efficient unfused"
ARMS = (*OURS, UNFUSED, "padded batch", "loop")
"""The first three with the kernels that training takes; the others with an operator of torch's after the other."""
FORBIDDEN = {
    "flash attention": r"flash_(fwd|bwd)|pytorch_flash|flash::",
    "cuDNN attention": r"cudnn.*(sdpa|fmha|attn|attention)",
    "bfloat16": r"bf16|bfloat16",
    "TF32": r"tf32",
    "a Triton matrix product": r"triton_.*(mm|dot|bmm)",
}
"""What a V100 has no hardware or no supported kernel for, as it shows in names of CUDA kernels."""
X = 24
"""Token of an unknown residue: what padding is filled with."""


def main() -> None:
    arguments = parse_arguments()
    if "RANK" in os.environ:
        scale_rank(arguments)
        return
    if arguments.v100_legal:
        forbid_what_a_v100_lacks()
    device = torch.device(arguments.device)
    if "BENCH_PROVE" in os.environ:
        prove_legal(arguments, device)
        return
    report: dict[str, Any] = {"machine": describe(device), "command": " ".join(sys.argv)}
    print(f"# {report['machine']}\n# {report['command']}")
    with tempfile.TemporaryDirectory(prefix="bench training ") as folder:
        store = Path(folder) / "proteins.store"
        build_store([arguments.fasta], store, BuildOptions())
        if arguments.arms:
            report["matmul_tflops"] = matmul_rate(device, arguments) / 1e12
            report["steps"] = list(measure_arms(arguments, store, device))
        if arguments.gpus:
            report["scaling"] = measure_scaling(arguments, store)
        if arguments.end_to_end:
            report["end_to_end"] = measure_end_to_end(arguments, store, Path(folder), report.get("steps", []))
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=2) + "\n")
    if arguments.picture and report.get("steps"):
        arguments.picture.write_text(picture(report))


def parse_arguments() -> argparse.Namespace:
    words = functools.partial(str.split, sep=",")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--fasta", type=Path, default=PROTEINS)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--models", type=words, default=["24M", "67M", "92M"], help=", ".join(MODELS))
    parser.add_argument("--arms", type=words, default=list(ARMS), help=f"{', '.join(ARMS)}; '' for none")
    parser.add_argument("--crops", type=lambda s: [int(n) for n in s.split(",")], default=[512, 1024])
    parser.add_argument("--residues", type=int, default=32_768, help="a micro-batch")
    parser.add_argument("--seconds", type=float, default=3.0, help="of measurement an arm, after warming up")
    parser.add_argument("--precision", default="auto")
    parser.add_argument("--kernels", choices=["auto", "fused", "torch"], default="auto")
    parser.add_argument("--optimizer", choices=["adamw", "muon"], default="adamw")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--cuda-graphs", choices=["auto", "true", "false"], default="auto")
    parser.add_argument("--activation-checkpointing", action="store_true")
    parser.add_argument(
        "--v100-legal", action="store_true", help="fp16 or fp32, no TF32, flash, cuDNN attention"
    )
    parser.add_argument(
        "--gpus", type=lambda s: [int(n) for n in s.split(",")], default=[], help="such as 1,2,4"
    )
    parser.add_argument("--end-to-end", action="store_true", help="also `sedd train` itself")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--picture", type=Path, help="SVG")
    arguments = parser.parse_args()
    arguments.arms = [arm for arm in arguments.arms if arm]
    if unknown := [m for m in arguments.models if m not in MODELS] + [
        a for a in arguments.arms if a not in ARMS
    ]:
        parser.error(f"unknown: {', '.join(unknown)}")
    if arguments.v100_legal and arguments.precision == "auto":
        arguments.precision = "fp16" if arguments.device != "cpu" else "fp32"
    return arguments


def forbid_what_a_v100_lacks() -> None:
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)


def describe(device: torch.device) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {os.cpu_count()} cores"
    return f"{name}, torch {torch.__version__}"


def experiment_for(
    arguments: argparse.Namespace, store: Path, model: str, crop: int, *, ranks: int = 1
) -> Experiment:
    training = {
        "steps": 1_000_000,
        "residues_per_step": arguments.residues * ranks,
        "residues_per_gpu": arguments.residues,
        "precision": arguments.precision,
        "kernels": arguments.kernels,
        "optimizer": arguments.optimizer,
        "compile": arguments.compile,
        "cuda_graphs": {"true": True, "false": False}.get(arguments.cuda_graphs, "auto"),
        "activation_checkpointing": arguments.activation_checkpointing,
    }
    return Experiment.model_validate(
        {
            "name": "bench",
            "data": {"store": str(store), "max_length": crop},
            "model": MODELS[model],
            "training": training,
            "resources": {"processes_per_node": ranks},
            "tracking": {"wandb": "disabled"},
        }
    )


# What the replaced design did, and what most do.


def loop_attention(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, max_length: int) -> Tensor:
    """One sequence after the other, in Python."""
    pieces = [
        F.scaled_dot_product_attention(*(x[a:b].transpose(0, 1).unsqueeze(0) for x in (q, k, v)))
        for a, b in itertools.pairwise(cu_seqlens.tolist())
        if b > a
    ]
    return torch.cat([piece.squeeze(0).transpose(0, 1) for piece in pieces])


def rows_attention(lengths: Tensor) -> Callable[..., Tensor]:
    """Attention of a padded batch, whose rows hold sequences of these lengths."""

    def attend(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, max_length: int) -> Tensor:
        rows = len(lengths)
        mask = torch.arange(q.shape[0] // rows, device=q.device) < lengths.unsqueeze(-1)
        q, k, v = (x.view(rows, -1, *x.shape[1:]).transpose(1, 2) for x in (q, k, v))
        mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None, None, :])
        return mixed.transpose(1, 2).flatten(0, 1)

    return attend


def pad(batch: DeviceBatch) -> tuple[DeviceBatch, Tensor]:
    """The batch with every sequence filled up to the longest, and the lengths."""
    lengths = batch.cu_seqlens.diff()
    width = -(-int(lengths.max()) // 8) * 8
    tokens = torch.full((len(lengths), width), X, device=batch.tokens.device)
    tokens[torch.arange(width, device=lengths.device) < lengths.unsqueeze(-1)] = batch.tokens
    borders = torch.arange(len(lengths) + 1, dtype=torch.int32, device=lengths.device) * width
    return DeviceBatch(batch.number, tokens.flatten(), borders, width), lengths


# Bare steps.


def measure_arms(
    arguments: argparse.Namespace, store: Path, device: torch.device
) -> Iterator[dict[str, Any]]:
    """A row for each model, crop and arm."""
    legality = {}
    if arguments.v100_legal and device.type == "cuda":
        require_proof(store)
        legality = {arm: arm != "flash" for arm in arguments.arms}
    print(
        f"{'model':>5} {'crop':>5} {'arm':<18} {'residues/s':>10} {'GiB':>6} {'of matmul':>9}  legal on a V100"
    )
    for model, crop, arm in itertools.product(arguments.models, arguments.crops, arguments.arms):
        experiment = experiment_for(arguments, store, model, crop)
        precision = choose_precision(arguments.precision, capability_of(device))
        if not is_legal(attention_of(arm), device, precision.compute):
            print(f"{model:>5} {crop:>5} {arm:<18} does not run in {precision.name} on {device}")
            continue
        row = {"model": model, "crop": crop, "arm": arm} | measure_arm(arguments, experiment, arm, device)
        row["v100_legal"] = legality.get(arm)
        share = f"{row['matmul_share']:.1%}" if row["matmul_share"] else ""
        print(
            f"{model:>5} {crop:>5} {arm:<18} {row['residues_per_s']:>10,.0f} {row['peak_gib']:>6.1f} {share:>9}  "
            f"{'yes' if row['v100_legal'] else 'not asked' if row['v100_legal'] is None else 'no'}",
            flush=True,
        )
        if capability_of(device) == (7, 0) and arm in ("efficient", "tiled"):
            print_estimate(experiment, arguments.residues)
        yield row


def print_estimate(experiment: Experiment, residues: int) -> None:
    """What tools/estimate_v100.py says of this step, beside what a V100 has just measured."""
    from sedd.soonest.v100 import TOKENS_A_PAIR, estimated_rates

    if pair := TOKENS_A_PAIR.get(experiment.data.max_length):
        slow, fast = estimated_rates(experiment.model, residues, pair)
        print(f"{'':>11} estimated: {slow:,.0f} to {fast:,.0f} (tools/estimate_v100.py)", flush=True)


def measure_arm(
    arguments: argparse.Namespace, experiment: Experiment, arm: str, device: torch.device
) -> dict[str, Any]:
    """Residues per second, peak memory and share of the matmul rate of one arm."""
    residues = arguments.residues
    few = few_batches(arguments, experiment, device)
    step = make_step(experiment, arm, few, device, Ranks())
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    rate = residues * timed(step, arguments.seconds, device)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else 0
    flops = np.mean([step_flops(experiment, batch) for batch in few]) / residues * rate
    del step
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    torch.compiler.reset()
    peak_rate = matmul_rate(device, arguments)
    return {
        "residues_per_s": rate,
        "peak_gib": peak / 2**30,
        "matmul_share": flops / peak_rate if peak_rate else None,
    }


def few_batches(
    arguments: argparse.Namespace, experiment: Experiment, device: torch.device
) -> list[DeviceBatch]:
    """The first four micro-batches, on the device."""
    data = experiment.data
    batches = Batches(
        TokenStore.open(data.store), max_length=data.max_length, residues=arguments.residues, seed=0
    )
    return [to_device(longest_first(batches.micro_batch(n)), n, device) for n in range(4)]


def make_step(
    experiment: Experiment, arm: str | None, few: list[DeviceBatch], device: torch.device, ranks: Ranks
) -> Callable[[], None]:
    """A function that takes a whole step; it goes round a few batches."""
    precision = choose_precision(experiment.training.precision, capability_of(device))
    network = build_network(experiment, ranks, precision, device)
    state = fresh_state(network.model, experiment.training, precision)
    update, turn = Update(experiment, network, ranks), itertools.cycle(few)
    if arm is not None:
        network.model.attention = attention_of(arm)
    if arm not in (None, *OURS):
        network.model.kernels = "torch"
    if arm == "loop":
        IMPLEMENTATIONS[arm] = loop_attention
    padded = {id(batch): pad(batch) for batch in few} if arm == "padded batch" else {}

    def step() -> None:
        batch = next(turn)
        if padded:
            batch, lengths = padded[id(batch)]
            IMPLEMENTATIONS[arm] = rows_attention(lengths)
        update(state, [batch])

    return step


def attention_of(arm: str) -> str:
    return "efficient" if arm == UNFUSED else arm


def timed(step: Callable[[], None], seconds: float, device: torch.device) -> float:
    """Steps per second over about this many seconds, after a warm-up; as in training, nobody waits within them."""
    for _ in range(3):
        step()
    wait(device)
    few, began = 4, time.perf_counter()
    for _ in range(few):
        step()
    wait(device)
    count = max(few, round(few * seconds / (time.perf_counter() - began)))
    began = time.perf_counter()
    for _ in range(count):
        step()
    wait(device)
    return count / (time.perf_counter() - began)


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def require_proof(store: Path) -> None:
    """Exits unless another process finds every arm legal: where a profiler has run, launches stay slower."""
    environment = os.environ | {"BENCH_STORE": str(store), "BENCH_PROVE": "1"}
    command = [sys.executable, __file__, *sys.argv[1:]]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr[-2000:] or f"error: the proof of what is legal ended with {done.returncode}")
    print(f"# {done.stdout.strip()}")


def prove_legal(arguments: argparse.Namespace, device: torch.device) -> None:
    """Profile a step of each model, crop and arm. Exits where a kernel is launched that a V100 lacks.

    The fused kernels run in a V100's instructions alone, as PTX, where a compiler for it is installed.
    """
    print(f"our own kernels: {in_instructions_of_a_v100()}; the others: by their names")
    legal = [arm for arm in arguments.arms if arm != "flash"]
    for model, crop, arm in itertools.product(arguments.models, arguments.crops, legal):
        experiment = experiment_for(arguments, Path(os.environ["BENCH_STORE"]), model, crop)
        step = make_step(experiment, arm, few_batches(arguments, experiment, device), device, Ranks())
        step()
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            step()
            torch.cuda.synchronize()
        require_legal_kernels({e.name for e in profile.events() if e.device_type == DeviceType.CUDA}, arm)
        del step
        gc.collect()
        torch.cuda.empty_cache()


def in_instructions_of_a_v100() -> str:
    """Run the fused kernels so from now on; says whether."""
    try:
        compile_ptx("", (7, 0), {})
    except KernelError as e:
        return f"not proved to be legal on a V100 ({e})"
    launch.use_instructions_of((7, 0))
    return "legal on a V100, as they run in the instructions of compute capability 7.0"


def require_legal_kernels(names: set[str], arm: str) -> None:
    """Exits where a kernel's name shows what a V100 lacks."""
    if not names:
        sys.exit("error: the profiler saw no kernel: nothing is proved")
    for what, pattern in FORBIDDEN.items():
        if found := sorted(name for name in names if re.search(pattern, name, re.IGNORECASE)):
            sys.exit(f"error: the arm '{arm}' launches {what}, which a V100 lacks: {found[0]}")


def step_flops(experiment: Experiment, batch: DeviceBatch) -> float:
    """Floating-point operations of a step's matrix products: 6 a weight and token, 12 a pair of tokens and width."""
    model = experiment.model
    weights = model.blocks * 12 * model.hidden**2 + model.hidden * 33
    pairs = float((batch.cu_seqlens.diff().double() ** 2).sum())
    return 6 * weights * batch.tokens.numel() + 12 * model.blocks * model.hidden * pairs


@functools.cache
def _matmul_rate(device: torch.device, dtype: torch.dtype, size: int) -> float:
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 * timed(lambda: torch.mm(a, b), 1.0, device)


def matmul_rate(device: torch.device, arguments: argparse.Namespace) -> float:
    """Operations per second of a large square matrix product in the number format of the training."""
    precision = choose_precision(arguments.precision, capability_of(device))
    return _matmul_rate(device, precision.compute, 8192 if device.type == "cuda" else 1024)


# Several GPUs.


def measure_scaling(arguments: argparse.Namespace, store: Path) -> list[dict[str, Any]]:
    """Residues per second of 1, 2, 4 … processes, each with its own micro-batch: DDP, first model, first crop."""
    rows: list[dict[str, Any]] = []
    for count in arguments.gpus:
        out = store.parent / f"scaling-{count}.json"
        command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={count}"]
        command += [__file__, *sys.argv[1:], "--json", str(out)]
        environment = os.environ | {"BENCH_STORE": str(store)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(f"error: {count} processes failed:\n{done.stderr[-2000:]}")
        rows.append(json.loads(out.read_text()))
        gain = rows[-1]["residues_per_s"] / rows[0]["residues_per_s"] * rows[0]["ranks"]
        rows[-1]["speedup"] = gain
        print(f"{count} GPUs: {rows[-1]['residues_per_s']:,.0f} residues/s, {gain:.2f} x one", flush=True)
    return rows


def scale_rank(arguments: argparse.Namespace) -> None:
    """What each process of a scaling measurement does."""
    if arguments.v100_legal:
        forbid_what_a_v100_lacks()
    ranks = Ranks.from_environment(os.environ)
    device = ranks.device() if arguments.device.startswith("cuda") else torch.device("cpu")
    store, crop = Path(os.environ["BENCH_STORE"]), arguments.crops[0]
    experiment = experiment_for(arguments, store, arguments.models[0], crop, ranks=ranks.size)
    batches = Batches(TokenStore.open(store), max_length=crop, residues=arguments.residues, seed=0)
    with connected(ranks, device) as group:
        few = [
            to_device(longest_first(batches.micro_batch(n)), n, device)
            for n in range(ranks.rank, 4 * ranks.size, ranks.size)
        ]
        arm = arguments.arms[0] if arguments.arms and device.type == "cuda" else None
        step = make_step(experiment, arm, few, device, ranks)
        for _ in range(4):
            step()
        wait(device)
        group.barrier()
        count, began = 40 if device.type == "cuda" else 4, time.perf_counter()
        for _ in range(count):
            step()
        wait(device)
        group.barrier()
        rate = count * arguments.residues * ranks.size / (time.perf_counter() - began)
        if ranks.is_first:
            arguments.json.write_text(json.dumps({"ranks": ranks.size, "residues_per_s": rate}))


# The whole program.


def measure_end_to_end(
    arguments: argparse.Namespace, store: Path, folder: Path, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """Residues per second of `sedd train` between two of its lines: loading, logging, checkpoints included."""
    model, crop, arm = (
        arguments.models[0],
        arguments.crops[0],
        arguments.arms[0] if arguments.arms else "auto",
    )
    same = (r["residues_per_s"] for r in rows if (r["model"], r["crop"], r["arm"]) == (model, crop, arm))
    bare = next(same, 0.0)
    few = 50 if arguments.device != "cpu" else 10
    steps = few + max(few, int(10 * arguments.seconds * bare / arguments.residues) // few * few)
    spec = experiment_for(arguments, store, model, crop).model_dump(mode="json")
    spec["training"] |= {"steps": steps + few, "log_every_steps": 10}
    spec["training"]["attention"] = arm if arm in OURS and bare else "auto"
    spec["training"]["checkpoint"]["every_steps"] = steps // 2
    spec["training"]["validation"] |= {"every_steps": 10**9, "residues": arguments.residues}
    path = folder / "end-to-end.json"
    path.write_text(json.dumps(spec))
    came = when_steps_were_logged(path, folder / "runs")
    rate = (steps - few) * arguments.residues / (came[steps] - came[few])
    share = rate / bare if bare else None
    of_bare = f", {share:.1%} of the bare step" if share else ""
    print(f"sedd train: {rate:,.0f} residues/s over {steps - few} steps{of_bare}")
    return {"residues_per_s": rate, "steps": steps - few, "share_of_bare_step": share}


def when_steps_were_logged(spec: Path, runs: Path) -> dict[int, float]:
    """Train; step -> the second in which its line came. A step's line holds its loss: the GPU has done it."""
    command = [sys.executable, "-m", "sedd", "train", str(spec)]
    environment = os.environ | {"SEDD_RUNS": str(runs), "PYTHONUNBUFFERED": "1"}
    came, told = {}, []
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as training:
        for line in training.stdout or ():
            told.append(line)
            if step := re.match(r"step (\d+)/", line):
                came[int(step[1])] = time.perf_counter()
    if training.returncode:
        sys.exit(f"error: sedd train failed: {''.join(told)[-2000:]}")
    return came


def picture(report: dict[str, Any]) -> str:
    """Bars of residues per second, one group a model and crop."""
    rows, top = report["steps"], max(row["residues_per_s"] for row in report["steps"])
    colours = dict(zip(ARMS, ("#0b6e4f", "#2f9e6b", "#7a9e9f", "#5fa777", "#c58b2c", "#b23a48"), strict=True))
    parts, y = [], 60
    for (model, crop), group in itertools.groupby(rows, key=lambda row: (row["model"], row["crop"])):
        parts.append(f'<text x="16" y="{y}" font-weight="bold">{model} parameters, cut at {crop}</text>')
        for row in group:
            y += 22
            width = 440 * row["residues_per_s"] / top
            parts.append(f'<text x="16" y="{y}">{row["arm"]}</text>')
            parts.append(
                f'<rect x="136" y="{y - 12}" width="{width:.1f}" height="15" fill="{colours[row["arm"]]}"/>'
            )
            parts.append(f'<text x="{142 + width:.1f}" y="{y}">{row["residues_per_s"]:,.0f}</text>')
        y += 36
    head = '<text x="16" y="28" font-size="16">Residues per second of a whole training step</text>'
    foot = f'<text x="16" y="{y}" fill="#555">{escape(report["machine"])}</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 676 {y + 16}" font-family="sans-serif" '
        f'font-size="13"><rect width="100%" height="100%" fill="white"/>{head}{"".join(parts)}{foot}</svg>\n'
    )


if __name__ == "__main__":
    main()
