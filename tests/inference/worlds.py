"""Exact denoisers of worlds that can be written down, and mutants in them."""

import itertools

import numpy as np
import torch

from sedd.diffusion.conditional import hiding_tokens
from sedd.inference.conditionals import Denoiser
from sedd.inference.variants import Variant
from tests.diffusion.enumeration import World, noise_named, small_graph

CPU = torch.device("cpu")


def world_with_a_hiding_token(graph: str, length: int, seed: int = 0) -> World:
    """A world whose last token no clean sequence holds, on either graph."""
    world = World(small_graph(graph), length, seed)
    for axis in range(length):
        clean = torch.arange(world.n) < world.n - 1
        world.p_0 = world.p_0 * clean.view([-1 if a == axis else 1 for a in range(length)])
    world.p_0 = world.p_0 / world.p_0.sum()
    return world


def denoiser_of(world: World, *, distort: float = 0.0, noise: str = "loglinear") -> Denoiser:
    occurs = torch.arange(world.n) < world.n - 1
    log_score = world.log_score(distort)
    return Denoiser(
        graph=world.graph,
        noise=noise_named(noise),
        hiding=hiding_tokens(world.graph, occurs),
        device=CPU,
        log_score=lambda cu_seqlens, longest: log_score,
        log_score_as_if_hidden=lambda cu_seqlens, longest: log_score,
    )


def variant(wild_type: tuple[int, ...], mutant: tuple[int, ...]) -> Variant:
    return Variant(
        protein="world",
        name=f"{wild_type} to {mutant}",
        wild_type=np.array(wild_type, np.uint8),
        mutant=np.array(mutant, np.uint8),
    )


def all_variants(world: World, wild_type: tuple[int, ...]) -> list[Variant]:
    """Every other sequence that the world holds."""
    letters = range(world.n - 1)
    others = itertools.product(letters, repeat=world.length)
    return [variant(wild_type, other) for other in others if other != wild_type]


def log_p(world: World, x: np.ndarray) -> float:
    """ln of the exact probability of a clean sequence."""
    return float(world.p_0[tuple(int(token) for token in x)].log())


def log_conditional(world: World, x: np.ndarray, site: int, token: int, hidden: set[int]) -> float:
    """ln p(token at site | the positions that are neither hidden nor the site), summed out of the joint."""
    p = world.p_0
    index = [
        slice(None) if place in hidden or place == site else int(x[place]) for place in range(world.length)
    ]
    left = [place for place in range(world.length) if place in hidden or place == site]
    p = p[tuple(index)]
    p = p.sum([axis for axis, place in enumerate(left) if place != site]) if len(left) > 1 else p
    return float((p / p.sum())[token].log())
