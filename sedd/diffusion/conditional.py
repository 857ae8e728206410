"""One residue's distribution given the others, read off a score: tokens that hide a position, and the noise level."""

import math

import torch
from jaxtyping import Bool
from torch import Tensor

from sedd.diffusion.graph import Graph
from sedd.diffusion.noise import Noise
from sedd.diffusion.times import T_MIN


def hiding_tokens(graph: Graph, occurs: Bool[Tensor, "n"]) -> tuple[int, ...]:
    """Tokens that tell nothing of a position but that its residue is unknown: those that no clean sequence holds.

    On the absorbing graph that is the mask. On the uniform graph every token may appear by noise, but one that the
    data never holds can only be noise, and whatever was there before is equally likely to have turned into it: an
    exact score treats it as a mask. `occurs` says which tokens the data holds.

    Raises:
        ValueError: every token occurs.
    """
    clean = graph.clean_tokens(occurs.device)
    never = ~clean if graph.settles else ~(clean & occurs)
    hiding = tuple(int(token) for token in never.nonzero().flatten())
    if not hiding:
        raise ValueError("every token occurs in the data: nothing can hide a position")
    return hiding


def cleanest_level(noise: Noise) -> float:
    """The smallest sigma_bar that a network of this schedule was trained on."""
    return float(noise.total(torch.tensor(T_MIN, dtype=torch.float64)))


def hidden_level(graph: Graph, noise: Noise, hidden: int, length: int) -> float:
    """The sigma_bar at which to ask for residues where `hidden` of `length` positions are hidden.

    Absorbing: the level at which that many masks are expected, as the bound has it, and not below the cleanest; an
    exact score is the same at every level. Uniform: the cleanest, since what is not hidden is known to be right.
    """
    cleanest = cleanest_level(noise)
    if not graph.settles or not length:
        return cleanest
    last = float(noise.total(torch.tensor(1.0, dtype=torch.float64)))
    share = hidden / (length + 1)
    return max(cleanest, -math.log1p(share * math.expm1(-last)))
