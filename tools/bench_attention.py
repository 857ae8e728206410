"""Measure attention alone, as a layer of a network computes it: microseconds of its forward and of its backward pass.

fp16, packed batches of real proteins, heads of several sizes. `compute_70` is `tiled` as PTX in a V100's instructions.
Results are compared with softmax in float64, and those of two calls bit by bit; it ends with 1 where one is wrong.
Times are medians; rates count two products of matrices forward and five backward, whatever a kernel computes twice.
Needs a GPU.

python tools/bench_attention.py --fasta uniprot20k.fasta.gz --heads 12x64 6x128 --crops 512 1024
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from sedd.data.batches import Batches, PackedBatch, longest_first
from sedd.data.build import BuildOptions, build_store
from sedd.data.store import TokenStore
from sedd.model.attention import explicit_attention, pair_for
from sedd.model.fused import launch

PROTEINS = Path(__file__).resolve().parents[1] / "jobs/data/uniprot2k.fasta.gz"
HEADS = [(12, 64), (8, 64), (16, 32), (6, 128), (4, 128)]
ARMS = {"efficient": "efficient", "tiled": "tiled", "compute_70": "tiled", "flash": "flash"}
"""Name of an arm → its implementation of attention."""
TOLERANCE = 2e-3
"""Of ‖result − exact‖ / ‖exact‖: some roundings of float16."""


def main() -> None:
    options = parse_options()
    if not torch.cuda.is_available():
        sys.exit("error: this measures kernels of a GPU, and there is no CUDA device")
    print(f"# {torch.cuda.get_device_name()}, torch {torch.__version__}\n# {' '.join(sys.argv)}")
    is_right = True
    with tempfile.TemporaryDirectory(prefix="bench attention ") as folder:
        store = Path(folder) / "proteins.store"
        build_store([options.fasta], store, BuildOptions())
        for crop in options.crops:
            batches = Batches(TokenStore.open(store), max_length=crop, residues=options.residues)
            batch = longest_first(batches.micro_batch(0))
            for heads, head_dim in options.heads:
                is_right &= measure(Layer(batch, heads, head_dim), options)
    if not is_right:
        sys.exit("error: results are wrong")


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--fasta", type=Path, default=PROTEINS)
    parser.add_argument("--heads", type=parse_heads, nargs="+", default=HEADS, help="such as 12x64")
    parser.add_argument("--arms", choices=ARMS, nargs="+", default=list(ARMS))
    parser.add_argument("--crops", type=int, nargs="+", default=[512, 1024])
    parser.add_argument("--residues", type=int, default=32_768, help="a micro-batch")
    parser.add_argument("--repeats", type=int, default=30)
    return parser.parse_args()


def parse_heads(text: str) -> tuple[int, int]:
    heads, head_dim = text.split("x")
    return int(heads), int(head_dim)


class Layer:
    """Queries, keys and values side by side, as a block has them, and the gradient of its output."""

    def __init__(self, batch: PackedBatch, heads: int, head_dim: int, device: str = "cuda") -> None:
        self.borders = torch.from_numpy(batch.cu_seqlens).to(device)
        self.longest = batch.max_length
        generator = torch.Generator(device).manual_seed(1)
        shape = len(batch.tokens), 4, heads, head_dim
        drawn = torch.randn(shape, generator=generator, device=device).half()
        self.given, self.d_output = drawn[:, :3].contiguous().unbind(1), drawn[:, 3].contiguous()
        lengths = batch.cu_seqlens[1:] - batch.cu_seqlens[:-1]
        pairs = int((lengths.astype(int) ** 2).sum())
        self.title = (
            f"{heads} x {head_dim}, cut at {batch.max_length}: {len(lengths)} sequences, "
            f"{pairs / len(batch.tokens):.0f} keys for a residue on average"
        )
        self.product = 2 * pairs * heads * head_dim
        """FLOPs of a product of matrices."""

    def passes(self, implementation: str) -> tuple[Callable[[], Tensor], Callable[[], tuple[Tensor, ...]]]:
        pair = pair_for(implementation, self.d_output.shape[-1], self.d_output.device)
        ends = self.borders, self.longest
        output, kept = pair.forward(*self.given, *ends, keep=True)
        return (
            lambda: pair.forward(*self.given, *ends, keep=True)[0],
            lambda: tuple(pair.backward(self.d_output, *self.given, output, *ends, kept)),
        )

    def exact(self) -> list[Tensor]:
        """Output and gradients in float64, sequence by sequence."""
        parts = []
        for begin, end in zip(self.borders[:-1].tolist(), self.borders[1:].tolist(), strict=True):
            given = [x[begin:end].double().requires_grad_() for x in self.given]
            output = explicit_attention(*given, self.borders.new_tensor([0, end - begin]), end - begin)
            gradients = torch.autograd.grad(output, given, self.d_output[begin:end].double())
            parts.append((output.detach(), *gradients))
        return [torch.cat(results) for results in zip(*parts, strict=True)]


def measure(layer: Layer, options: argparse.Namespace) -> bool:
    """Print a row for each arm; whether all results are right."""
    exact, is_right = layer.exact(), True
    print(layer.title)
    for arm in options.arms:
        launch.use_instructions_of((7, 0) if arm == "compute_70" else None)
        forward, backward = layer.passes(ARMS[arm])
        first, second = ((forward(), *backward()) for _ in range(2))
        error = max(relative(*pair) for pair in zip(first, exact, strict=True))
        bits = "same" if all(torch.equal(*pair) for pair in zip(first, second, strict=True)) else "other"
        times = [microseconds(call, options.repeats) for call in (forward, backward)]
        rates = [count * layer.product / time / 1e6 for count, time in zip((2, 5), times, strict=True)]
        print(
            f"  {arm:<11}{times[0]:6,.0f} · {times[1]:6,.0f} µs{rates[0]:6.0f} · {rates[1]:3.0f} TFLOP/s"
            f"   error {error:.1e}, {bits} bits twice{'' if error < TOLERANCE else '   WRONG'}",
            flush=True,
        )
        is_right &= error < TOLERANCE
    launch.use_instructions_of(None)
    return is_right


def relative(here: Tensor, there: Tensor) -> float:
    return float((here.double() - there).norm() / there.norm())


def microseconds(call: Callable[[], object], repeats: int) -> float:
    """Median over calls one by one, each from when the GPU is idle."""
    for _ in range(10):
        call()
    times = []
    for _ in range(repeats):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize()
        begin.record()
        call()
        end.record()
        torch.cuda.synchronize()
        times.append(begin.elapsed_time(end) * 1000)
    return statistics.median(times)


if __name__ == "__main__":
    main()
