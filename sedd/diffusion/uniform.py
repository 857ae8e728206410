"""The uniform graph: tokens turn into any token."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from sedd.diffusion.draws import Randomness, uniform
from sedd.diffusion.process import Graph, Level, Levels, Rows, Tokens, bregman, log_moved


@dataclass(frozen=True, slots=True)
class Uniform(Graph):
    """Each token jumps to any of the n tokens, itself included, at rate 1 in all: Q = 11'/n - I."""

    n: int = 33

    settles: ClassVar[bool] = False

    def rates(self, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.full((self.n, self.n), 1 / self.n, dtype=dtype) - torch.eye(self.n, dtype=dtype)

    def clean_tokens(self, device: torch.device) -> Bool[Tensor, "n"]:
        return torch.ones(self.n, dtype=torch.bool, device=device)

    def log_transition(self, x: Tokens, sigma_bar: Levels) -> Rows:
        sigma_bar = sigma_bar.expand(x.shape).unsqueeze(-1)
        moved = (log_moved(sigma_bar) - math.log(self.n)).expand(*x.shape, self.n)
        return moved.scatter(-1, x.long().unsqueeze(-1), self._log_stay(sigma_bar))

    def _log_stay(self, sigma_bar: Tensor) -> Tensor:
        return torch.log1p((1 - 1 / self.n) * torch.expm1(-sigma_bar))

    def sample_transition(self, x: Tokens, sigma_bar: Levels, randomness: Randomness) -> Tokens:
        u = uniform(tuple(x.shape), 2, randomness, dtype=sigma_bar.dtype, device=x.device)
        return torch.where(u[..., 0] < -torch.expm1(-sigma_bar), self._any_token(u[..., 1]).to(x.dtype), x)

    def sample_prior(self, shape: tuple[int, ...], randomness: Randomness, device: torch.device) -> Tensor:
        u = uniform(shape, 1, randomness, dtype=torch.float64, device=device).squeeze(-1)
        return self._any_token(u)

    def _any_token(self, u: Tensor) -> Tensor:
        # The largest u < 1 times n can round to n.
        return (u * self.n).long().clamp_max(self.n - 1)

    def prior_divergence(self, sigma_bar: Level) -> Level:
        a, n = torch.exp(-sigma_bar), self.n
        moved = -torch.expm1(-sigma_bar)
        others = torch.where(moved > 0, moved * log_moved(sigma_bar), 0.0)
        return ((1 + (n - 1) * a) * torch.log1p((n - 1) * a) + (n - 1) * others) / n

    def score_entropy(self, log_score: Rows, x_t: Tokens, x_0: Tokens, sigma_bar: Levels) -> Level:
        # P(x_0, x_0) / P(x_0, y) = 1 + n / (exp(sigma_bar) - 1) for each y != x_0; the other ratios are 1.
        log_odds = torch.log1p(self.n / torch.expm1(sigma_bar.expand(x_t.shape))).unsqueeze(-1)
        # Infinite without noise, where each term is its limit, the score itself: reached to all digits at e^300.
        log_odds = log_odds.clamp_max(300.0)
        own, clean = x_t.long().unsqueeze(-1), x_0.long().unsqueeze(-1)
        log_ratio = torch.where(own == clean, -log_odds, 0.0).expand_as(log_score)
        log_ratio = log_ratio.scatter(-1, clean, torch.where(own == clean, 0.0, log_odds))
        terms = log_ratio.exp() * bregman(log_score - log_ratio)
        return terms.scatter(-1, own, 0.0).sum(-1) / self.n

    def log_score_scale(self, sigma_bar: Level) -> Level:
        return torch.zeros_like(sigma_bar)

    def log_score_of_mean(self, logits: Rows, x: Tokens, sigma_bar: Levels) -> Rows:
        sigma_bar = sigma_bar.expand(x.shape).unsqueeze(-1)
        log_p = torch.logaddexp(logits.log_softmax(-1) - sigma_bar, log_moved(sigma_bar) - math.log(self.n))
        return log_p - log_p.gather(-1, x.long().unsqueeze(-1))

    def reverse_rates(self, log_score: Rows, x: Tokens) -> Rows:
        return (log_score.exp() / self.n).scatter(-1, x.long().unsqueeze(-1), 0.0)

    def posterior(self, log_score: Rows, x: Tokens, sigma_bar: Levels, step: Levels) -> Rows:
        score = log_score.scatter(-1, x.long().unsqueeze(-1), 0.0).exp()
        moved = -torch.expm1(-step.expand(x.shape)).unsqueeze(-1) / self.n
        # expm(-step Q) s, without its factor exp(step): no more than 1 and free of overflow.
        before = (score - moved * score.sum(-1, keepdim=True)).clamp_min(0.0)
        probabilities = before * (
            moved + torch.exp(-step.expand(x.shape)).unsqueeze(-1) * _one_hot(x, before)
        )
        total = probabilities.sum(-1, keepdim=True)
        # Of a step of 36 and more nothing is left in a float64's digits of the score: any token may have been before.
        return torch.where(total > 0, probabilities / total, 1 / self.n)

    def log_conditional(self, log_score: Rows, x: Tokens, sigma_bar: Levels) -> Rows:
        # p_t(y) = exp(-sigma_bar) p_0(y) + moved * sum(p_0): the second term is the same share of the sum for every y.
        score = log_score.scatter(-1, x.long().unsqueeze(-1), 0.0)
        share = (score - score.logsumexp(-1, keepdim=True)).exp()
        moved = -torch.expm1(-sigma_bar.expand(x.shape)).unsqueeze(-1) / self.n
        clean = (share - moved).clamp_min(0.0)
        # A score that is not exact can rule a token out, or all but one.
        return (clean / clean.sum(-1, keepdim=True)).clamp_min(1e-12).log()


def _one_hot(x: Tensor, like: Tensor) -> Tensor:
    return torch.zeros_like(like).scatter(-1, x.long().unsqueeze(-1), 1.0)
