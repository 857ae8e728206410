"""Masking drawn tokens again on the way back, so that a sampler of the absorbing graph can revise them.

ReMDM (Wang et al. 2025, arXiv 2503.00307), with alpha = exp(-sigma_bar), p the clean token's distribution given the
rest, and sigma the chance that a visible token is masked again in the step t -> s:

    x_t visible:  x_s = mask with sigma, else x_t
    x_t = mask:   x_s = y    with p_y (alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t), else mask

Given x_0, x_s is then masked with 1 - alpha_s, whatever sigma is between 0 and (1 - alpha_s) / alpha_t: the marginals
are those of the forward process. Ours is a rate, sigma = 1 - (alpha_t / alpha_s)^rate, cut at that bound: by the time
all noise is gone a token has been masked again `rate` times on average, with any schedule and any number of steps. The
error of tokens that are drawn side by side in a step vanishes with the steps' width, as it does without remasking.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from sedd.diffusion.draws import draw_change
from sedd.diffusion.noise import Noise
from sedd.diffusion.process import Rows, Tokens


def chance_to_remask(rate: float, noise: Noise, t: Tensor, s: Tensor) -> Tensor:
    """sigma of the step t -> s: the same for every visible token."""
    later, earlier = noise.total(t), noise.total(s)
    at_most = -torch.expm1(-earlier) * later.exp()
    return torch.minimum(-torch.expm1(-rate * (later - earlier)), at_most).clamp(0.0, 1.0)


def with_remasking(p_s: Rows, x: Tokens, mask: int, sigma: Tensor, step: Tensor) -> Rows:
    """One step's distribution of each token, remasking with chance sigma added; `step` is sigma_bar_t - sigma_bar_s.

    A mask turns into a residue the more often: by 1 + sigma / (exp(step) - 1), as (alpha_s - alpha_t) stands to
    (alpha_s - (1 - sigma) alpha_t).
    """
    more = 1 + sigma / torch.expm1(step).clamp_min(torch.finfo(p_s.dtype).tiny)
    column = torch.arange(p_s.shape[-1], device=p_s.device) == mask
    moves = p_s.masked_fill(column, 0.0) * more
    # A first-order predictor can promise more than 1.
    moves = moves / moves.sum(-1, keepdim=True).clamp_min(1.0)
    masked = torch.where(column, (1 - moves.sum(-1, keepdim=True)).clamp_min(0.0), moves)
    visible = p_s * (1 - sigma) + column * sigma
    return torch.where((x == mask).unsqueeze(-1), masked, visible)


def by_confidence(
    p_s: Rows,
    x: Tokens,
    u: Float[Tensor, "*batch"],
    confidence: Float[Tensor, "*batch"],
    sequence: Tokens,
    sequences: int,
    mask: int,
) -> Tokens:
    """Draw a step in which as many masks of each sequence turn into residues as ever, but the most confident ones.

    How many is drawn as without an order, so that the number of masks at each time is that of the forward process;
    which ones is not: the marginals on the way are others. What comes out keeps its distribution only where the score
    is exact and residues appear one at a time, since then any order that depends on what is seen is a chain rule.
    `sequence` numbers each token's sequence, `confidence` is in [0, 1].
    """
    masked = x == mask
    stay = p_s.gather(-1, x.long().unsqueeze(-1)).squeeze(-1)
    appears = ((1 - stay) / p_s.sum(-1)).clamp(0.0, 1.0)
    drawn = masked & (u < appears)
    count = torch.zeros(sequences, dtype=torch.int64, device=x.device).scatter_add(0, sequence, drawn.long())
    # The part of u that did not decide whether: uniform again, and independent of it.
    tiny = torch.finfo(u.dtype).tiny
    rest = torch.where(drawn, u / appears.clamp_min(tiny), (u - appears) / (1 - appears).clamp_min(tiny))
    residue = draw_change(p_s.scatter(-1, x.long().unsqueeze(-1), 0.0), x, rest.clamp(0.0, 1.0))
    # Masks of a sequence first, the most confident of them at the front.
    place = torch.argsort(2 * sequence + torch.where(masked, 0.5 * (1 - confidence), 1.0), stable=True)
    rank = torch.empty_like(place).scatter(0, place, torch.arange(len(place), device=x.device))
    chosen = masked & (rank - torch.searchsorted(sequence, sequence) < count[sequence])
    return torch.where(chosen, residue, torch.where(masked, x, draw_change(p_s, x, u)))


def likeliest(p: Rows) -> Float[Tensor, "*batch"]:
    """Confidence as the probability of the likeliest residue (MaskGIT, Chang et al. 2022, arXiv 2202.04200)."""
    return p.amax(-1)


def margin(p: Rows) -> Float[Tensor, "*batch"]:
    """Confidence as how far the likeliest is ahead of the second (Kim et al. 2025, arXiv 2502.06768)."""
    first, second = p.topk(2, dim=-1).values.unbind(-1)
    return first - second


ORDERS = {"random": None, "confidence": likeliest, "margin": margin}
"""By what it is decided which masks turn into residues first: chance alone, or a confidence."""
