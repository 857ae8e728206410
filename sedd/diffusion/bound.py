"""Draw the evidence lower bound per token by Monte Carlo.

Its mean is never below the negative log-likelihood of the process that the samplers follow: from the prior at
sigma_bar(1) back to sigma_bar(T_MIN), then one draw of the clean tokens. Where a score that is not exact gives a true
token no chance in that last draw, the bound is infinite; such a token is charged `-ln(RULED_OUT)` instead, and counted,
so that a reader knows whether the number is a bound.

On the absorbing graph the residues of that last draw, a thousandth of all, are counted one after the other, though they
are drawn at once: what two of them tell about each other is in the bound and not in the samples.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool
from torch import Tensor

from sedd.diffusion.draws import (
    Borders,
    CounterNoise,
    Packed,
    PerSequence,
    PerToken,
    Randomness,
    packed_positions,
    uniform,
)
from sedd.diffusion.graph import Absorbing, Graph
from sedd.diffusion.noise import Noise
from sedd.diffusion.score_entropy import score_entropy
from sedd.diffusion.times import T_MIN

RULED_OUT = 1e-12
"""Probability that a true token counts as having when the last draw has none for it."""

LogScore = Callable[[Tensor, Tensor], Tensor]
"""(x [tokens], sigma_bar [sequences]) -> log score [tokens, n]."""


@dataclass(frozen=True, eq=False, slots=True)
class BoundTerms:
    """One draw of the bound's terms; each field has one entry a token."""

    nats: PerToken
    """A sequence's sum, averaged over u in [0, 1), is the bound."""
    ruled_out: Bool[Tensor, "tokens"]
    """Where the true token had less than `RULED_OUT` in the last draw: there the true term is larger, or infinite."""


def bound_terms(
    log_score: LogScore,
    x_0: Packed,
    cu_seqlens: Borders,
    u: PerSequence,
    *,
    graph: Graph,
    noise: Noise,
    randomness: Randomness,
) -> BoundTerms:
    """One draw of the bound's terms, and which tokens the score rules out."""
    path = path_terms(log_score, x_0, cu_seqlens, u, graph=graph, noise=noise, randomness=randomness)
    end = end_terms(log_score, x_0, cu_seqlens, u.dtype, graph=graph, noise=noise, randomness=randomness)
    return BoundTerms(path + end.nats, end.ruled_out)


def path_terms(
    log_score: LogScore,
    x_0: Packed,
    cu_seqlens: Borders,
    u: PerSequence,
    *,
    graph: Graph,
    noise: Noise,
    randomness: Randomness,
) -> PerToken:
    """One draw of the terms that depend on u: on the absorbing graph all of the bound."""
    limits = _limits(noise)
    if isinstance(graph, Absorbing):
        return _order_bound(log_score, x_0, cu_seqlens, u, graph, limits, randomness)
    index, _ = packed_positions(cu_seqlens, x_0.numel())
    sigma_bar, weight = (x.to(u.dtype) for x in path_levels(u, *limits))
    x_t = graph.sample_transition(x_0, sigma_bar[index], _stream(randomness, 1))
    return score_entropy(log_score(x_t, sigma_bar), x_t, x_0, sigma_bar[index], graph) * weight[index]


def end_terms(
    log_score: LogScore,
    x_0: Packed,
    cu_seqlens: Borders,
    dtype: torch.dtype,
    *,
    graph: Graph,
    noise: Noise,
    randomness: Randomness,
) -> BoundTerms:
    """One draw of what does not depend on u: the clean tokens' cost given x at T_MIN, and the prior's term.

    Nothing, and no call of the network, on the absorbing graph. Such a draw varies little: by T_MIN
    only about one token in a thousand has jumped.
    """
    if isinstance(graph, Absorbing):
        # Each score is a probability above 0.
        nothing = torch.zeros(x_0.numel(), dtype=dtype, device=x_0.device)
        return BoundTerms(nothing, torch.zeros_like(nothing, dtype=torch.bool))
    index, _ = packed_positions(cu_seqlens, x_0.numel())
    time = torch.full((cu_seqlens.numel() - 1,), T_MIN, dtype=dtype, device=x_0.device)
    first = noise.total(time)
    x_first = graph.sample_transition(x_0, first[index], _stream(randomness, 2))
    clean = graph.posterior(log_score(x_first, first), x_first, first[index], first[index])
    likelihood = clean.gather(-1, x_0.long().unsqueeze(-1)).squeeze(-1)
    prior = graph.prior_divergence(noise.total(torch.ones_like(time)))
    return BoundTerms(prior[index] - likelihood.clamp_min(RULED_OUT).log(), likelihood < RULED_OUT)


def _limits(noise: Noise) -> list[float]:
    """The noise levels between which the samplers walk."""
    levels: list[float] = noise.total(torch.tensor([T_MIN, 1.0], dtype=torch.float64)).tolist()
    return levels


def _order_bound(
    log_score: LogScore,
    x_0: Tensor,
    cu_seqlens: Tensor,
    u: Tensor,
    graph: Absorbing,
    ends: Sequence[float],
    randomness: Randomness,
) -> Tensor:
    """The mean over the number k = 1 ... L of masked tokens: (L / k) times the masked tokens' costs.

    Along paths that end all masked, the integral over t is this sum for every schedule, with bounded weights: the
    order-agnostic autoregressive bound (arXiv 2110.02037). Given k, the chance to be masked is distributed as the
    k-th smallest of L uniforms, and the tokens of the k smallest are the masked ones.
    """
    if x_0.numel() == 0:
        return u.new_zeros(0)
    index, place = packed_positions(cu_seqlens, x_0.numel())
    starts, lengths = cu_seqlens[:-1].long(), cu_seqlens.diff().long()
    k = torch.minimum((u.double() * lengths).long() + 1, lengths.clamp_min(1))
    v = uniform((x_0.numel(),), 1, randomness, dtype=torch.float64, device=x_0.device).squeeze(-1)
    # Tokens behind the last sequence are nobody's: last in order, they are never among the k.
    order = torch.argsort(torch.where(place < lengths[index], index + v, torch.inf))
    rank = torch.empty_like(order).scatter(0, order, torch.arange(x_0.numel(), device=x_0.device))
    masked = rank - starts[index] < k[index]
    share = v[order[(starts + k - 1).clamp_max(x_0.numel() - 1)]]
    # Below T_MIN the network is asked at T_MIN: the residues that are there say the same about the others.
    sigma_bar = (-torch.log1p(share * math.expm1(-ends[1]))).clamp_min(ends[0]).to(u.dtype)
    x_t = torch.where(masked, graph.mask, x_0)
    per_token = sigma_bar[index]
    cost = score_entropy(log_score(x_t, sigma_bar), x_t, x_0, per_token, graph) * torch.expm1(per_token)
    return cost * (lengths / k).to(cost.dtype)[index]


def path_levels(u: PerSequence, first: float, last: float) -> tuple[PerSequence, PerSequence]:
    """Noise levels sigma_bar in [first, last] for u in [0, 1], and d sigma_bar / du; float64.

    The integral over sigma_bar is the same for every schedule, so levels are drawn where its integrand varies most. A
    token that has jumped, as one of sigma_bar has, costs about ln(n / sigma_bar) / sigma_bar: drawn evenly in
    sigma_bar, the variance has a tail that only a density like 1 / sqrt(sigma_bar) cuts off. Large sigma_bar, where
    little is left to learn, is drawn as rarely as 1 / sigma_bar^2.
    """
    low, high = (math.sqrt(end / (1 + end)) for end in (first, last))
    v = low + (high - low) * u.double()
    return v**2 / (1 - v**2), (high - low) * 2 * v / (1 - v**2) ** 2


def _stream(randomness: Randomness, number: int) -> Randomness:
    return randomness.stream(number) if isinstance(randomness, CounterNoise) else randomness
