"""Infilling, in which given residues stay, and partial diffusion, which begins at clean ones."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from sedd.diffusion.draws import draw_change, uniform
from sedd.diffusion.process import Graph
from sedd.diffusion.sharpen import Sharpening

SWEEPS = 4
"""How often `gibbs` redraws each free token."""


@dataclass(frozen=True, eq=False, slots=True)
class Template:
    """Given residues and free positions of packed sequences; what stands at a free position does not matter."""

    tokens: Int[Tensor, "tokens"]
    free: Bool[Tensor, "tokens"]

    def onto(self, x: Int[Tensor, "tokens"]) -> Int[Tensor, "tokens"]:
        """x with the given residues in their places."""
        return torch.where(self.free, x, self.tokens)

    def corrupted_onto(
        self, x: Int[Tensor, "tokens"], graph: Graph, sigma_bar: Tensor, generator: torch.Generator
    ) -> Int[Tensor, "tokens"]:
        """x with the given residues as a network expects them at this noise level.

        A graph whose tokens settle has clean residues at every level. Elsewhere a clean residue would pass for a noisy
        one, so it is corrupted like the rest.
        """
        if graph.settles:
            return self.onto(x)
        noisy = graph.sample_transition(self.tokens, sigma_bar.expand(x.shape), generator)
        return torch.where(self.free, x, noisy)


@dataclass(frozen=True, eq=False, slots=True)
class Start:
    """Where sampling begins other than in noise alone: clean tokens some of which the noise has hit."""

    tokens: Int[Tensor, "tokens"]
    hit: Bool[Tensor, "tokens"]
    share: float
    """1 - exp(-sigma_bar): the chance of a token to be hit at the level from which to go back; in (0, 1]."""

    def draw(self, graph: Graph, generator: torch.Generator) -> Int[Tensor, "tokens"]:
        """x_t: what is hit is drawn from the prior, as `Graph.sample_transition` does."""
        prior = graph.sample_prior(tuple(self.tokens.shape), generator, self.tokens.device)
        return torch.where(self.hit, prior, self.tokens)


def gibbs(
    log_score: Callable[[Tensor], Tensor],
    x: Int[Tensor, "tokens"],
    free: Bool[Tensor, "tokens"],
    lengths: Sequence[int],
    sharpening: Sharpening,
    generator: torch.Generator,
) -> Int[Tensor, "tokens"]:
    """Redraw free tokens one by one given all others, in random order, side by side in all sequences.

    With almost no noise left the scores of one token's alternatives are the odds of the data itself, so this converges
    to the free tokens' distribution given the clean fixed ones. Steps from noise alone do not: they never see those.
    """
    device, sequence = x.device, sequence_of(lengths, x.device)
    for _ in range(SWEEPS):
        key = uniform((x.numel(),), 1, generator, dtype=torch.float64, device=device).squeeze(-1)
        turn = _rank_among_free(key, sequence, free)
        for number in range(int(turn.max()) + 1):
            u = uniform((x.numel(),), 1, generator, dtype=torch.float64, device=device).squeeze(-1)
            odds = log_score(x).scatter(-1, x.long().unsqueeze(-1), 0.0)
            drawn = draw_change(sharpening.whole((odds - odds.amax(-1, keepdim=True)).exp()), x, u)
            x = torch.where(turn == number, drawn, x)
    return x


def sequence_of(lengths: Sequence[int], device: torch.device) -> Int[Tensor, "tokens"]:
    """The number of each token's sequence."""
    return torch.repeat_interleave(
        torch.arange(len(lengths), device=device), torch.tensor(lengths, device=device)
    )


def _rank_among_free(key: Tensor, sequence: Tensor, free: Tensor) -> Tensor:
    """For each free token its place in its sequence's random order, from 0; -1 for the fixed ones."""
    # Fixed tokens sort behind the free ones of their sequence.
    order = torch.argsort(2 * sequence + ~free + key * 0.5)
    rank = torch.empty_like(order).scatter(0, order, torch.arange(order.numel(), device=order.device))
    first = torch.searchsorted(sequence, sequence)
    return torch.where(free, rank - first, -1)
