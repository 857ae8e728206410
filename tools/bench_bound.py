"""How well does the likelihood bound know itself: spread over seeds, and the error that it tells?

    python tools/bench_bound.py --proteins 300 --seeds 16

Real proteins' lengths, residues drawn from their frequencies: independent ones, whose exact score is known, so that
what spreads is the estimate and nothing else. First one draw a protein, as a training's validation has it, with noise
levels by chance and by length; then `likelihood_bound`. Nats per residue; on a CPU, some minutes.
"""

import argparse
import itertools
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sedd.data.alphabet import AMINO_ACIDS, SIZE, encode
from sedd.data.records import read_records
from sedd.diffusion.bound import bound_terms
from sedd.diffusion.draws import counter_noise, packed_positions
from sedd.diffusion.graph import GRAPHS, Graph
from sedd.diffusion.likelihood import likelihood_bound
from sedd.diffusion.noise import NOISES, Noise
from sedd.diffusion.times import lattice
from sedd.spec.diffusion import DiffusionSpec
from sedd.training.network import build_objective

FASTA = Path(__file__).resolve().parents[1] / "jobs/data/uniprot2k.fasta.gz"
LONGEST = 1024


@dataclass(frozen=True, slots=True)
class Proteins:
    """Packed, the longest first, with the distribution that their residues follow."""

    tokens: Tensor
    cu_seqlens: Tensor
    frequencies: Tensor

    @property
    def count(self) -> int:
        return len(self.cu_seqlens) - 1

    def log_score(self, graph: Graph) -> Callable[[Tensor, Tensor], Tensor]:
        """ln p_t(y) / p_t(x), p_t = frequencies · P(sigma_bar): exact, as residues are independent."""
        index, _ = packed_positions(self.cu_seqlens, len(self.tokens))
        every = torch.arange(SIZE)

        def log_score(x: Tensor, sigma_bar: Tensor) -> Tensor:
            kernel = graph.log_transition(every.repeat(len(sigma_bar), 1), sigma_bar.unsqueeze(-1)).exp()
            p_t = torch.einsum("a,say->sy", self.frequencies, kernel).clamp_min(1e-300).log()[index]
            return p_t - p_t.gather(-1, x.unsqueeze(-1))

        return log_score


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--fasta", type=Path, default=FASTA)
    parser.add_argument("--proteins", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--draws", type=int, nargs="+", default=[4, 16])
    options = parser.parse_args()
    proteins = read(options.fasta, options.proteins)
    print(f"# {proteins.count} proteins, {len(proteins.tokens):,} residues, {options.seeds} seeds")
    print(f"{'graph':<10}{'noise':<11}{'draws':<22}{'spread':>8}{'told':>8}")
    for graph, noise in itertools.product(GRAPHS, NOISES):
        if GRAPHS[graph].settles and noise != "loglinear":
            continue  # no schedule enters there
        for place in ("by chance", "by length"):
            values = [single(proteins, graph, noise, seed, place) for seed in range(options.seeds)]
            line(graph, noise, f"1, levels {place}", values)
        for draws in options.draws:
            bounds = [whole(proteins, graph, noise, seed, draws) for seed in range(options.seeds)]
            told = sum(error for _, error in bounds) / len(bounds)
            line(graph, noise, str(draws), [value for value, _ in bounds], told)
    return 0


def line(graph: str, noise: str, what: str, values: list[float], told: float | None = None) -> None:
    spread = torch.tensor(values).std().item()
    error = f"{told:8.4f}" if told is not None else ""
    print(f"{graph:<10}{noise:<11}{what:<22}{spread:8.4f}{error}", flush=True)


def read(fasta: Path, count: int) -> Proteins:
    """The lengths of the file's first proteins, with residues drawn anew from their frequencies."""
    texts = [record.text[:LONGEST] for record in itertools.islice(read_records(fasta), count)]
    lengths = sorted(map(len, texts), reverse=True)
    tokens = torch.from_numpy(encode("".join(texts))).long()
    is_residue = torch.tensor([number in AMINO_ACIDS for number in range(SIZE)])
    frequencies = tokens.bincount(minlength=SIZE).double() * is_residue
    drawn = torch.multinomial(
        frequencies, sum(lengths), replacement=True, generator=torch.Generator().manual_seed(0)
    )
    return Proteins(drawn, torch.tensor([0, *lengths]).cumsum(0).int(), frequencies / frequencies.sum())


def single(proteins: Proteins, graph: str, noise: str, seed: int, place: str) -> float:
    """One draw a protein; their noise levels in any order, or evenly along the lengths."""
    generator, count = torch.Generator().manual_seed(seed), proteins.count
    offset = torch.rand((), generator=generator).item()
    u = lattice(torch.arange(count), offset=offset, dtype=torch.float64)
    if place == "by chance":
        u = u[torch.randperm(count, generator=generator)]
    noise_source = counter_noise(
        seed, 0, torch.arange(count), proteins.cu_seqlens, tokens=len(proteins.tokens)
    )
    terms = bound_terms(
        proteins.log_score(GRAPHS[graph]()),
        proteins.tokens,
        proteins.cu_seqlens,
        u,
        graph=GRAPHS[graph](),
        noise=default_noise(noise),
        randomness=noise_source,
    )
    return terms.nats.mean().item()


def whole(proteins: Proteins, graph: str, noise: str, seed: int, draws: int) -> tuple[float, float]:
    """The bound and its standard error, as `sedd evaluate` tells them."""
    bound = likelihood_bound(
        proteins.log_score(GRAPHS[graph]()),
        proteins.tokens,
        proteins.cu_seqlens,
        graph=GRAPHS[graph](),
        noise=default_noise(noise),
        draws=draws,
        seed=seed,
    )
    return bound.nats_per_residue, bound.standard_error


def default_noise(kind: str) -> Noise:
    """The schedule as specs have it that name nothing but its kind."""
    return build_objective(DiffusionSpec.model_validate({"noise": {"kind": kind}})).noise


if __name__ == "__main__":
    sys.exit(main())
