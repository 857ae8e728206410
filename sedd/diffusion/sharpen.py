"""Temperature, top-p and allowed tokens, applied to where a token moves and not to when."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sedd.diffusion.process import Rows, Tokens


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Sharpening:
    """How the distribution over target tokens is narrowed; without one, by what is allowed alone."""

    allowed: Bool[Tensor, "n"]
    """Tokens that may be drawn."""
    temperature: float = 1.0
    """Probabilities are raised to 1 / temperature; above 0."""
    top_p: float = 1.0
    """Only the likeliest tokens that make up this share are kept; in (0, 1]."""

    def __post_init__(self) -> None:
        if self.temperature <= 0 or not 0 < self.top_p <= 1:
            raise ValueError(f"temperature {self.temperature} must be > 0 and top_p {self.top_p} in (0, 1]")

    def moves(self, probabilities: Rows, x: Tokens) -> Rows:
        """Sharpen where x changes to; the total probability of a change stays as it is."""
        own = x.long().unsqueeze(-1)
        moves = probabilities.scatter(-1, own, 0.0)
        total = moves.sum(-1, keepdim=True)
        return (total * self.whole(moves, never=own)).scatter(-1, own, probabilities.gather(-1, own))

    def whole(self, weights: Rows, never: Tensor | None = None) -> Rows:
        """Sharpen a whole distribution and normalise it; `never` [..., 1] holds one token a row to leave out."""
        possible = self.allowed.expand(weights.shape).to(weights.dtype)
        if never is not None:
            possible = possible.scatter(-1, never, 0.0)
        weights = weights.clamp_min(0.0) * possible
        # Where nothing allowed has a chance, all of it has the same.
        weights = torch.where((weights > 0).any(-1, keepdim=True), weights, possible)
        if self.temperature != 1.0:
            weights = (weights.log() / self.temperature).softmax(-1).nan_to_num()
        weights = weights / weights.sum(-1, keepdim=True).clamp_min(torch.finfo(weights.dtype).tiny)
        return weights if self.top_p == 1.0 else _nucleus(weights, self.top_p)


def _nucleus(p: Float[Tensor, "*batch n"], share: float) -> Float[Tensor, "*batch n"]:
    ordered, place = p.sort(-1, descending=True)
    # A token is kept if those before it do not reach the share: the likeliest always is.
    kept = torch.where(ordered.cumsum(-1) - ordered < share, ordered, 0.0)
    kept = torch.zeros_like(p).scatter(-1, place, kept)
    return kept / kept.sum(-1, keepdim=True)
