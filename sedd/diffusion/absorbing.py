"""The absorbing graph: tokens turn into masks."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from sedd.diffusion.draws import Randomness, uniform
from sedd.diffusion.process import Graph, Level, Levels, Rows, Tokens, bregman, log_expm1, log_moved


@dataclass(frozen=True, slots=True)
class Absorbing(Graph):
    """Each token jumps to the mask at rate 1 and stays there."""

    n: int = 33
    mask: int = 32

    settles: ClassVar[bool] = True

    def rates(self, dtype: torch.dtype = torch.float64) -> Tensor:
        q = -torch.eye(self.n, dtype=dtype)
        q[:, self.mask] += 1
        return q

    def clean_tokens(self, device: torch.device) -> Bool[Tensor, "n"]:
        return torch.arange(self.n, device=device) != self.mask

    def log_transition(self, x: Tokens, sigma_bar: Levels) -> Rows:
        sigma_bar = sigma_bar.expand(x.shape)
        log_p = sigma_bar.new_full((*x.shape, self.n), -torch.inf)
        log_p[..., self.mask] = log_moved(sigma_bar)
        stay = torch.where(x == self.mask, 0.0, -sigma_bar)
        return log_p.scatter(-1, x.long().unsqueeze(-1), stay.unsqueeze(-1))

    def sample_transition(self, x: Tokens, sigma_bar: Levels, randomness: Randomness) -> Tokens:
        u = uniform(tuple(x.shape), 1, randomness, dtype=sigma_bar.dtype, device=x.device).squeeze(-1)
        return torch.where(u < -torch.expm1(-sigma_bar), self.mask, x)

    def sample_prior(self, shape: tuple[int, ...], randomness: Randomness, device: torch.device) -> Tensor:
        return torch.full(shape, self.mask, device=device)

    def prior_divergence(self, sigma_bar: Level) -> Level:
        # The bound is taken along paths that end all masked (bound.py): nothing is left to pay.
        return torch.zeros_like(sigma_bar)

    def score_entropy(self, log_score: Rows, x_t: Tokens, x_0: Tokens, sigma_bar: Levels) -> Level:
        masked = (x_t == self.mask) & (x_0 != self.mask)
        # Without noise nothing is masked; nor may the gradient there be 0 times infinity.
        sigma_bar = torch.where(masked, sigma_bar, 1.0)
        excess = self._excess(log_score + log_expm1(sigma_bar).unsqueeze(-1), x_0)
        return torch.where(masked, excess / torch.expm1(sigma_bar), 0.0)

    def _excess(self, log_q: Tensor, x_0: Tensor) -> Tensor:
        """sum_y q_y - 1 - ln q_{x_0}, q the guess of the clean token: the cross-entropy where q sums to 1."""
        others = log_q.masked_fill(self._mask_column(log_q), -torch.inf)
        target = x_0.long().unsqueeze(-1)
        # Apart from the target's own term, whose 1 and ln q would cancel at the exact score.
        others = others.scatter(-1, target, -torch.inf).exp().sum(-1)
        return others + bregman(log_q.gather(-1, target).squeeze(-1))

    def log_score_scale(self, sigma_bar: Level) -> Level:
        return -log_expm1(sigma_bar) - math.log(self.n - 1)

    def log_score_of_mean(self, logits: Rows, x: Tokens, sigma_bar: Levels) -> Rows:
        residues = logits.masked_fill(self._mask_column(logits), -torch.inf)
        log_score = residues.log_softmax(-1) - log_expm1(sigma_bar.expand(x.shape)).unsqueeze(-1)
        return log_score.scatter(-1, x.long().unsqueeze(-1), 0.0)

    def reverse_rates(self, log_score: Rows, x: Tokens) -> Rows:
        rates = log_score.exp().masked_fill(self._mask_column(log_score), 0.0)
        return torch.where((x == self.mask).unsqueeze(-1), rates, 0.0)

    def posterior(self, log_score: Rows, x: Tokens, sigma_bar: Levels, step: Levels) -> Rows:
        moves = self.reverse_rates(log_score + log_expm1(step.expand(x.shape)).unsqueeze(-1), x)
        # A score that is not exact can promise more than certainty.
        stay = (1 - moves.sum(-1, keepdim=True)).clamp_min(0.0)
        probabilities = moves.scatter(-1, x.long().unsqueeze(-1), stay)
        return probabilities / probabilities.sum(-1, keepdim=True)

    def log_conditional(self, log_score: Rows, x: Tokens, sigma_bar: Levels) -> Rows:
        # Hidden or seen, the score of each residue is its probability given what is seen, times a constant.
        return log_score.masked_fill(self._mask_column(log_score), -torch.inf).log_softmax(-1)

    def _mask_column(self, like: Tensor) -> Tensor:
        # Made on the device: an index tensor from the host would wait for the GPU.
        return torch.arange(self.n, device=like.device) == self.mask
