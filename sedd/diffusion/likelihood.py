"""The likelihood bound of given sequences, with its standard error, reproducible to the last digit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sedd.diffusion.bound import LogScore, evidence_bound
from sedd.diffusion.draws import counter_noise, packed_positions, uniform
from sedd.diffusion.noise import Noise
from sedd.diffusion.process import Graph


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Bound:
    """An upper bound on the negative log-likelihood of sequences, estimated; each field has one entry a sequence."""

    nats: Float[Tensor, "sequences"]
    """Estimated bound, float64."""
    variance: Float[Tensor, "sequences"]
    """Of that estimate."""
    residues: Int[Tensor, "sequences"]

    @property
    def nats_per_residue(self) -> float:
        """Mean over residues."""
        return float(self.nats.sum() / self.residues.sum())

    @property
    def standard_error(self) -> float:
        """Of `nats_per_residue`, through the Monte Carlo estimate; these sequences themselves are taken as given."""
        return float(self.variance.sum().sqrt() / self.residues.sum())

    @property
    def perplexity(self) -> float:
        """exp(nats per residue)."""
        return math.exp(self.nats_per_residue) if self.nats_per_residue < 700 else math.inf

    @property
    def bits_per_residue(self) -> float:
        """Nats per residue over ln 2."""
        return self.nats_per_residue / math.log(2)


def join_bounds(bounds: Sequence[Bound]) -> Bound:
    """The bound of all sequences of several batches."""
    return Bound(
        nats=torch.cat([b.nats for b in bounds]),
        variance=torch.cat([b.variance for b in bounds]),
        residues=torch.cat([b.residues for b in bounds]),
    )


@torch.no_grad()
def likelihood_bound(
    log_score: LogScore,
    tokens: Int[Tensor, "tokens"],
    cu_seqlens: Int[Tensor, "sequences_plus_1"],
    *,
    graph: Graph,
    noise: Noise,
    draws: int,
    seed: int,
    first_sample: int = 0,
) -> Bound:
    """Estimate the bound of packed sequences with `draws` >= 2 noise levels for each, spread evenly.

    Random numbers are keyed by (seed, draw, number of the sequence, position): `first_sample` is the number of the
    first sequence here, so that a set cut into other batches gives the same.

    Raises:
        ValueError: fewer than two draws: one has no spread to tell its error by.
    """
    if draws < 2:
        raise ValueError(f"the bound's error needs at least 2 draws; draws={draws}")
    sequences = cu_seqlens.numel() - 1
    index, _ = packed_positions(cu_seqlens, tokens.numel())
    numbers = first_sample + torch.arange(sequences, device=tokens.device)
    alone = torch.arange(sequences + 1, device=tokens.device, dtype=torch.int32)
    shift = uniform(
        (sequences,),
        1,
        counter_noise(seed, -1, numbers, alone, sequences),
        dtype=torch.float64,
        device=tokens.device,
    ).squeeze(-1)
    sums = []
    for draw in range(draws):
        terms = evidence_bound(
            log_score,
            tokens,
            cu_seqlens,
            (draw + shift) / draws,
            graph=graph,
            noise=noise,
            randomness=counter_noise(seed, draw, numbers, cu_seqlens, tokens.numel()),
        )
        sums.append(terms.new_zeros(sequences, dtype=torch.float64).index_add(0, index, terms.double()))
    values = torch.stack(sums)
    return Bound(nats=values.mean(0), variance=_variance_of_mean(values), residues=cu_seqlens.diff().long())


def _variance_of_mean(values: Float[Tensor, "draws sequences"]) -> Float[Tensor, "sequences"]:
    """Of draws over evenly spaced noise levels, whose trend the spacing takes out of the mean.

    Chance is how far each draw lies from the line through its two neighbours; the first and the last one, of which the
    first may vary more than all others, from their only neighbour, which counts the trend there as chance.
    """
    draws = len(values)
    ends = values[:2].diff(dim=0).square() + values[-2:].diff(dim=0).square()
    if draws == 2:
        return ends.squeeze(0) / 8
    inner = values.diff(n=2, dim=0).square().sum(0)
    # Weights by which each draw's own variance counts once, the two next to the ends' a little more.
    return (inner + 5 * ends.squeeze(0)) / (6 * draws * (draws + 4 / 3))
