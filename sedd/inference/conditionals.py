"""Distributions of single residues given the rest of their sequence, for many sequences packed into full batches."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sedd.diffusion.bound import LogScore
from sedd.diffusion.draws import packed_positions
from sedd.diffusion.graph import Graph
from sedd.diffusion.noise import Noise
from sedd.inference.batch_size import batch_residues
from sedd.inference.pack import batches, pack

Packed = Callable[[Tensor, int], LogScore]
"""(cu_seqlens, longest length) → log score of sequences packed so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Denoiser:
    """A score, and what reading conditional distributions off it takes."""

    graph: Graph
    noise: Noise
    hiding: tuple[int, ...]
    """Tokens that hide a position (`sedd.diffusion.conditional.hiding_tokens`)."""
    device: torch.device
    log_score: Packed
    log_score_as_if_hidden: Packed
    """The same, read at each token as if that one were hidden (`Objective.log_score_as_if_hidden`)."""


@dataclass(frozen=True, slots=True)
class Query:
    """A sequence in which some positions are hidden, and the positions whose distribution is asked for."""

    tokens: NDArray[np.uint8]
    sigma_bar: float
    positions: tuple[int, ...]


def read_conditionals(
    denoiser: Denoiser, queries: Sequence[Query], *, as_if_hidden: bool = False
) -> Iterator[NDArray[np.float64]]:
    """For each query, in order, ln p(residue | what it shows of the rest): float64 [positions, tokens of the alphabet].

    `as_if_hidden` reads positions at which residues are seen as if they were hidden.
    """
    score = denoiser.log_score_as_if_hidden if as_if_hidden else denoiser.log_score
    for first, stop in batches([len(query.tokens) for query in queries], batch_residues(denoiser.device)):
        part = queries[first:stop]
        tokens, borders, longest = pack([query.tokens for query in part], denoiser.device)
        levels = torch.tensor([q.sigma_bar for q in part], dtype=torch.float64, device=denoiser.device)
        index, _ = packed_positions(borders, tokens.numel())
        asked = [
            start + place for start, q in zip(borders.tolist(), part, strict=False) for place in q.positions
        ]
        rows = torch.tensor(asked, dtype=torch.int64, device=denoiser.device)
        log_score = score(borders, longest)(tokens, levels)[rows].double()
        found = denoiser.graph.log_conditional(log_score, tokens[rows], levels[index[rows]]).cpu().numpy()
        yield from np.split(found, np.cumsum([len(q.positions) for q in part])[:-1])
