"""The likelihood bound of given sequences, with its standard error, reproducible to the last digit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sedd.diffusion.bound import LogScore, bound_terms
from sedd.diffusion.draws import counter_noise, packed_positions, uniform
from sedd.diffusion.noise import Noise
from sedd.diffusion.process import Graph


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Bound:
    """An upper bound on the negative log-likelihood of sequences, estimated; each field has one entry a sequence."""

    nats: Float[Tensor, "sequences"]
    """Estimated bound, float64."""
    variance: Float[Tensor, "sequences"]
    """Of that estimate; of one sequence alone known roughly (one to three degrees of freedom), of many well."""
    residues: Int[Tensor, "sequences"]
    ruled_out: Int[Tensor, "sequences"]
    """How often, over all draws, the score gave one of its residues a chance below `bound.RULED_OUT`.

    Each counts as that in `nats`, which is an upper bound only where this is 0.
    """

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
        ruled_out=torch.cat([b.ruled_out for b in bounds]),
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
    """Estimate the bound of packed sequences with `draws` >= 2 noise levels for each.

    From 16 draws on they make four sets, below that two, each spread evenly by itself. Sets know nothing of each
    other, so that what they differ by is their error, all of it.

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

    ruled_out = torch.zeros(sequences, dtype=torch.int64, device=tokens.device)

    def one(draw: int, u: Tensor) -> Tensor:
        randomness = counter_noise(seed, draw, numbers, cu_seqlens, tokens.numel())
        terms = bound_terms(log_score, tokens, cu_seqlens, u, graph=graph, noise=noise, randomness=randomness)
        ruled_out.index_add_(0, index, terms.ruled_out.long())
        return terms.nats.new_zeros(sequences, dtype=torch.float64).index_add(0, index, terms.nats.double())

    estimates = []
    for which, members in enumerate(torch.arange(draws).tensor_split(4 if draws >= 16 else 2)):
        levels = _spread(len(members), graph, _shift(seed, which, numbers))
        drawn = [one(draw, u) for draw, u in zip(members.tolist(), levels, strict=True)]
        estimates.append(torch.stack(drawn).mean(0))
    each = torch.stack(estimates)
    return Bound(
        nats=each.mean(0),
        variance=each.var(0) / len(each),
        residues=cu_seqlens.diff().long(),
        ruled_out=ruled_out,
    )


def _shift(seed: int, which: int, numbers: Int[Tensor, "sequences"]) -> Float[Tensor, "sequences"]:
    """Where in its stratum each sequence's noise levels of one set lie, in [0, 1)."""
    alone = torch.arange(len(numbers) + 1, device=numbers.device, dtype=torch.int32)
    noise = counter_noise(seed, -1 - which, numbers, alone, len(numbers))
    return uniform((len(numbers),), 1, noise, dtype=torch.float64, device=numbers.device).squeeze(-1)


def _spread(count: int, graph: Graph, shift: Float[Tensor, "sequences"]) -> list[Float[Tensor, "sequences"]]:
    """`count` numbers in [0, 1), one from each of as many equal strata, each one of them uniform on its own.

    Equally spaced, where the bound's integrand begins and ends at nothing, as on a path. Where it runs from the cost of
    the last residue to that of the first one (absorbing), every second number is mirrored, so that slopes cancel.
    """
    places = [1 - shift if graph.settles and number % 2 else shift for number in range(count)]
    return [(number + place) / count for number, place in enumerate(places)]
