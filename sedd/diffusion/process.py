"""The interface of a transition graph: how tokens are corrupted, and what follows in closed form.

Lou et al. 2024 (arXiv 2310.16834). Rows are origins: Q[x, y] is the rate of x -> y, and
P(x, y) = expm(sigma_bar Q)[x, y]. s(x)_y = p_t(y) / p_t(x) is the score of changing one token from x to y.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sedd.diffusion.draws import Randomness

Tokens = Int[Tensor, "*batch"]
Level = Float[Tensor, "*batch"]
Levels = Float[Tensor, "*#batch"]
"""sigma_bar of each token, or anything that broadcasts to it."""
Rows = Float[Tensor, "*batch n"]
"""One number for each token that could stand there."""


class Graph(ABC):
    """A corruption process on `n` tokens; each token of a sequence is corrupted on its own."""

    __slots__ = ()
    n: int
    settles: ClassVar[bool]
    """Whether a token, once it has changed on the way back, is clean and changes no more."""

    @abstractmethod
    def rates(self, dtype: torch.dtype = torch.float64) -> Float[Tensor, "n n"]:
        """Q, the generator per unit of sigma_bar: rows sum to zero."""

    @abstractmethod
    def clean_tokens(self, device: torch.device) -> Bool[Tensor, "n"]:
        """The tokens that x_0 may hold."""

    @abstractmethod
    def log_transition(self, x: Tokens, sigma_bar: Levels) -> Rows:
        """ln P(x, .) after the noise sigma_bar > 0; -inf where nothing leads."""

    @abstractmethod
    def sample_transition(self, x: Tokens, sigma_bar: Levels, randomness: Randomness) -> Tokens:
        """Draw x_t given x_0 = x."""

    @abstractmethod
    def sample_prior(
        self, shape: tuple[int, ...], randomness: Randomness, device: torch.device
    ) -> Int[Tensor, "..."]:
        """Draw from the distribution that x_t approaches."""

    @abstractmethod
    def prior_divergence(self, sigma_bar: Level) -> Level:
        """KL(P(x_0, .) || prior) per token in nats: the price of starting at a finite sigma_bar."""

    @abstractmethod
    def score_entropy(self, log_score: Rows, x_t: Tokens, x_0: Tokens, sigma_bar: Levels) -> Level:
        """Sum over y != x_t of Q(y, x_t) [s_y - r_y ln s_y + r_y (ln r_y - 1)].

        r_y = P(x_0, y) / P(x_0, x_t) is the ratio whose mean over x_0 is the true score.
        """

    @abstractmethod
    def log_score_scale(self, sigma_bar: Level) -> Level:
        """Log score that a network without knowledge would give; its raw output is counted from here."""

    @abstractmethod
    def log_score_of_mean(self, logits: Rows, x: Tokens, sigma_bar: Levels) -> Rows:
        """Log score if softmax(logits) is the clean token's distribution given the rest of the sequence."""

    @abstractmethod
    def reverse_rates(self, log_score: Rows, x: Tokens) -> Rows:
        """Rates Q(y, x) s_y of x -> y back in time, per unit of sigma_bar; zero at y = x."""

    @abstractmethod
    def posterior(self, log_score: Rows, x: Tokens, sigma_bar: Levels, step: Levels) -> Rows:
        """p(x_s | x_t = x), sigma_bar_s = sigma_bar - step: Tweedie's formula, exact for one token's exact score.

        A score that is not exact can give negative numbers: they count as 0, and each row sums to 1.
        """

    @abstractmethod
    def log_conditional(self, log_score: Rows, x: Tokens, sigma_bar: Levels) -> Rows:
        """ln p(x_0 = y | the other tokens of x_t): what stands at the token itself is left out.

        p_t(y, others) over y is the score times a constant; p(x_0 = y, others) is that with the token's own noise
        undone. An exact score gives the same row whatever stands there.
        """


def log_expm1(sigma_bar: Level) -> Level:
    """ln(exp(sigma_bar) - 1) without overflow or cancellation."""
    return sigma_bar + log_moved(sigma_bar)


def log_moved(sigma_bar: Tensor) -> Tensor:
    """ln(1 - exp(-sigma_bar)) to full relative precision on both sides of ln 2 (Maechler 2012)."""
    small = torch.log(-torch.expm1(-sigma_bar))
    return torch.where(sigma_bar < math.log(2), small, torch.log1p(-torch.exp(-sigma_bar)))


def bregman(d: Tensor) -> Tensor:
    """exp(d) - 1 - d."""
    return torch.expm1(d) - d
