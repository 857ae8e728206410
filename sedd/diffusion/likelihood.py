"""The likelihood bound of given sequences, with its standard error, reproducible to the last digit."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sedd.diffusion.bound import LogScore, end_terms, path_terms
from sedd.diffusion.draws import (
    Borders,
    CounterNoise,
    Packed,
    PerSequence,
    PerToken,
    counter_noise,
    packed_positions,
    uniform,
)
from sedd.diffusion.noise import Noise
from sedd.diffusion.process import Graph

_PATHS_PER_END = 8
"""Draws of the path's terms for each draw of its end, which costs a call of the network, too, and varies far less."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Bound:
    """An upper bound on the negative log-likelihood of sequences, estimated; a column for each sequence."""

    estimates: Float[Tensor, "sets sequences"]
    """Estimates in nats by sets of draws that know nothing of each other, float64."""
    residues: Int[Tensor, "sequences"]
    ruled_out: Int[Tensor, "sequences"]
    """How often, over all draws of the end, the score gave one of its residues a chance below `bound.RULED_OUT`.

    Each counts as that in `nats`, which is an upper bound only where this is 0.
    """
    copies: Int[Tensor, "sequences"] | None = None
    """How often each sequence counts in the means below; None: once."""

    @property
    def nats(self) -> Float[Tensor, "sequences"]:
        """Estimated bound of each sequence."""
        return self.estimates.mean(0)

    @property
    def variance(self) -> Float[Tensor, "sequences"]:
        """Of `nats`; of one sequence alone known roughly (one to three degrees of freedom), of many well."""
        return self.estimates.var(0) / len(self.estimates)

    @property
    def total_residues(self) -> int:
        """Residues of all sequences and their copies."""
        return int((self.residues * self._weight).sum())

    @property
    def nats_per_residue(self) -> float:
        """Mean over residues."""
        return float((self.nats * self._weight).sum() / self.total_residues)

    @property
    def standard_error(self) -> float:
        """Of `nats_per_residue`, through the Monte Carlo estimate; these sequences themselves are taken as given.

        Copies of a sequence share their noise, and so their error.
        """
        return float((self.variance * self._weight**2).sum().sqrt() / self.total_residues)

    @property
    def perplexity(self) -> float:
        """exp(nats per residue)."""
        return math.inf if self.nats_per_residue > 700 else math.exp(self.nats_per_residue)  # NaN stays NaN

    @property
    def bits_per_residue(self) -> float:
        """Nats per residue over ln 2."""
        return self.nats_per_residue / math.log(2)

    @property
    def _weight(self) -> Int[Tensor, "sequences"]:
        return self.copies if self.copies is not None else torch.ones_like(self.residues)


def join_bounds(bounds: Sequence[Bound], copies: Int[Tensor, "sequences"] | None = None) -> Bound:
    """The bound of all sequences of several batches, each counted once, or as often as `copies` say."""
    return Bound(
        estimates=torch.cat([b.estimates for b in bounds], dim=1),
        residues=torch.cat([b.residues for b in bounds]),
        ruled_out=torch.cat([b.ruled_out for b in bounds]),
        copies=copies,
    )


@torch.no_grad()
def likelihood_bound(
    log_score: LogScore,
    tokens: Packed,
    cu_seqlens: Borders,
    *,
    graph: Graph,
    noise: Noise,
    draws: int,
    seed: int,
    first_sample: int = 0,
    keys: Int[Tensor, "sequences"] | None = None,
    places: Int[Tensor, "tokens"] | None = None,
) -> Bound:
    """Estimate the bound of packed sequences with `draws` >= 2 noise levels for each.

    From 16 draws on they make four sets, below that two, each spread evenly by itself. Sets know nothing of each
    other, so that what they differ by is their error, all of it. The end of the path, which only the uniform graph has,
    is drawn for one in eight.

    Random numbers are keyed by (seed, draw, key of the sequence, position): `keys` are the sequences' numbers from
    `first_sample` on, so that a set cut into other batches gives the same, or given. Sequences of one key share levels
    and, position by position, noise: their bounds differ by what they are alone. `places` are the positions by which
    tokens share noise, where those are not their own.

    Raises:
        ValueError: fewer than two draws: one has no spread to tell its error by.
    """
    if draws < 2:
        raise ValueError(f"the bound's error needs at least 2 draws; draws={draws}")
    sequences = cu_seqlens.numel() - 1
    index, _ = packed_positions(cu_seqlens, tokens.numel())
    numbers = keys if keys is not None else first_sample + torch.arange(sequences, device=tokens.device)

    ruled_out = torch.zeros(sequences, dtype=torch.int64, device=tokens.device)
    process: dict[str, Any] = {"graph": graph, "noise": noise}

    def noise_of(draw: int) -> CounterNoise:
        return counter_noise(seed, draw, numbers, cu_seqlens, tokens.numel(), places)

    def summed(nats: PerToken) -> PerSequence:
        # Not by index_add, which on a GPU adds up in no fixed order; `unsafe` skips a check that would wait for it.
        return torch.segment_reduce(nats.double(), "sum", offsets=cu_seqlens.long(), unsafe=True, initial=0)

    def path(draw: int, u: Tensor) -> Tensor:
        return summed(path_terms(log_score, tokens, cu_seqlens, u, randomness=noise_of(draw), **process))

    def end(draw: int) -> Tensor:
        terms = end_terms(log_score, tokens, cu_seqlens, torch.float64, randomness=noise_of(draw), **process)
        ruled_out.index_add_(0, index, terms.ruled_out.long())
        return summed(terms.nats)

    estimates = []
    for which, members in enumerate(torch.arange(draws).tensor_split(4 if draws >= 16 else 2)):
        levels = _spread(len(members), graph, _shift(seed, which, numbers))
        paths = [path(draw, u) for draw, u in zip(members.tolist(), levels, strict=True)]
        ends = [end(draw) for draw in members[::_PATHS_PER_END].tolist()]
        estimates.append(torch.stack(paths).mean(0) + torch.stack(ends).mean(0))
    return Bound(estimates=torch.stack(estimates), residues=cu_seqlens.diff().long(), ruled_out=ruled_out)


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
