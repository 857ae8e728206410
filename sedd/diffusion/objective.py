"""The training objective: corruption, the network's output as a score, and the weighted score entropy."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, assert_never

import torch
from torch import Tensor

from sedd.diffusion.bound import LogScore, bound_terms
from sedd.diffusion.curriculum import Curriculum
from sedd.diffusion.draws import Borders, Packed, PerSequence, PerToken, Randomness, packed_positions
from sedd.diffusion.graph import Absorbing, Graph
from sedd.diffusion.noise import Noise
from sedd.diffusion.parameterization import PARAMETERIZATIONS
from sedd.diffusion.score_entropy import score_entropy
from sedd.diffusion.times import T_MIN

Estimator = Literal["times", "counts"]
Network = Callable[[Tensor, Tensor], Tensor]
"""(x [tokens], sigma_bar [sequences]) -> raw output [tokens, n]."""


@dataclass(frozen=True, slots=True)
class Objective:
    """A graph, a noise schedule, the meaning of the network's output, and how training is eased."""

    graph: Graph
    noise: Noise
    parameterization: str = "score"
    curriculum: Curriculum | None = None
    estimator: Estimator = "times"
    """`times` draws t and corrupts each token on its own; `counts` trains on the draws of `bound` itself."""
    time_power: float = 1.0
    """p: the estimator `times` draws t = U^p and weighs each loss by p U^(p - 1), which leaves its expectation."""

    def __post_init__(self) -> None:
        if self.estimator == "counts" and (not self.graph.settles or self.curriculum is not None):
            raise ValueError(
                "the estimator 'counts' is the absorbing graph's, and has no times for a curriculum"
            )

    def log_score(self, network: Network, cu_seqlens: Borders) -> LogScore:
        """The network's log score for sequences packed as `cu_seqlens`."""
        read = PARAMETERIZATIONS[self.parameterization]

        def log_score(x: Tensor, sigma_bar: Tensor) -> Tensor:
            index, _ = packed_positions(cu_seqlens, x.numel())
            return read(network(x, sigma_bar), x, sigma_bar[index], self.graph)

        return log_score

    def log_score_as_if_hidden(self, network: Network, cu_seqlens: Borders) -> LogScore:
        """The log score in which each token's own is read as if that token were hidden, though the network sees it.

        On the absorbing graph the output at a residue that is seen is trained by nothing: this takes it for what it
        would be at a mask. On the uniform graph nothing is hidden, and this is the log score.
        """
        if not isinstance(self.graph, Absorbing):
            return self.log_score(network, cu_seqlens)
        read, mask = PARAMETERIZATIONS[self.parameterization], self.graph.mask

        def log_score(x: Tensor, sigma_bar: Tensor) -> Tensor:
            index, _ = packed_positions(cu_seqlens, x.numel())
            return read(network(x, sigma_bar), torch.full_like(x, mask), sigma_bar[index], self.graph)

        return log_score

    def per_residue(
        self,
        network: Network,
        tokens: Packed,
        cu_seqlens: Borders,
        t: PerSequence,
        *,
        generator: Randomness,
        step: int = 0,
    ) -> PerToken:
        """Training loss of each residue in nats: d sigma_bar / dt times score entropy at its sequence's time.

        With the estimator `counts` the same in expectation, with less variance: one of 1 ... L tokens is drawn to be
        the number of masked ones, instead of being left to chance. `step` places the curriculum, whose loss this is
        then: the true one is `bound`.
        """
        match self.estimator:
            case "counts":
                return self.bound(network, tokens, cu_seqlens, t, generator=generator)
            case "times":
                pass
            case _:
                assert_never(self.estimator)
        scale, weight = 1.0, torch.ones_like(t)
        if self.time_power != 1.0:
            u = ((t - T_MIN) / (1 - T_MIN)).clamp_min(0.0)
            t = T_MIN + (1 - T_MIN) * u**self.time_power
            weight = self.time_power * u ** (self.time_power - 1)
        if self.curriculum is not None:
            u = self.curriculum.bend_times(((t - T_MIN) / (1 - T_MIN)).clamp_min(0.0), step)
            t, scale = T_MIN + (1 - T_MIN) * u, self.curriculum.sigma_scale(step)
        index, _ = packed_positions(cu_seqlens, tokens.numel())
        sigma_bar, rate = scale * self.noise.total(t), scale * self.noise.rate(t) * weight
        x_t = self.graph.sample_transition(tokens, sigma_bar[index], generator)
        log_score = self.log_score(network, cu_seqlens)(x_t, sigma_bar)
        return rate[index] * score_entropy(log_score, x_t, tokens, sigma_bar[index], self.graph)

    def bound(
        self, network: Network, tokens: Packed, cu_seqlens: Borders, t: PerSequence, *, generator: Randomness
    ) -> PerToken:
        """One draw of the likelihood bound's terms per token in nats, for validation; no curriculum enters.

        Shapes: `t` in [T_MIN, 1], spread evenly over the sequences, as for `per_residue`.
        """
        u = ((t - T_MIN) / (1 - T_MIN)).clamp(0.0, 1.0)
        log_score = self.log_score(network, cu_seqlens)
        terms = bound_terms(
            log_score, tokens, cu_seqlens, u, graph=self.graph, noise=self.noise, randomness=generator
        )
        return terms.nats
