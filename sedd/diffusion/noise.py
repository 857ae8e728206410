"""Noise schedules: the total noise sigma_bar(t) and its rate for t in [0, 1] (Lou et al. 2024, arXiv 2310.16834)."""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


class Noise(ABC):
    """A schedule; both methods keep the dtype and device of `t`."""

    __slots__ = ()

    @abstractmethod
    def total(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """sigma_bar(t), the noise accumulated from 0 to t; grows with t."""

    @abstractmethod
    def rate(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """d sigma_bar / dt."""


@dataclass(frozen=True, slots=True)
class Loglinear(Noise):
    """sigma_bar(t) = -ln(1 - (1 - epsilon) t): the chance to have moved, 1 - exp(-sigma_bar), is linear in t."""

    epsilon: float

    def total(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        # Near 1 the form 1 - (1 - epsilon) t would lose all but three digits of a float32.
        return torch.where(t < 0.5, -torch.log1p(-(1 - self.epsilon) * t), -torch.log(self._stays(t)))

    def rate(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        return (1 - self.epsilon) / self._stays(t)

    def _stays(self, t: Tensor) -> Tensor:
        return (1 - t) + self.epsilon * t


@dataclass(frozen=True, slots=True)
class Geometric(Noise):
    """sigma_bar(t) = sigma_min^(1-t) sigma_max^t."""

    sigma_min: float
    sigma_max: float

    def total(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        return torch.exp((1 - t) * math.log(self.sigma_min) + t * math.log(self.sigma_max))

    def rate(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        return self.total(t) * math.log(self.sigma_max / self.sigma_min)


@dataclass(frozen=True, slots=True)
class Cosine(Noise):
    """sigma_bar(t) = sigma_max + (sigma_min - sigma_max)(1 + cos(pi t)) / 2."""

    sigma_min: float
    sigma_max: float

    def total(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        # (1 - cos x) / 2 = sin^2(x / 2) keeps the digits of a small t.
        return self.sigma_min + (self.sigma_max - self.sigma_min) * torch.sin(0.5 * math.pi * t) ** 2

    def rate(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        # sin(pi t), which rounds to below zero at t = 1: from the nearer end instead.
        return (
            0.5 * math.pi * (self.sigma_max - self.sigma_min) * torch.sin(math.pi * torch.minimum(t, 1 - t))
        )


def time_of(noise: Noise, sigma_bar: float, *, earliest: float) -> float:
    """The time in [earliest, 1] at which the noise is sigma_bar, by bisection; an end where it never is."""
    low, high = earliest, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        reached = float(noise.total(torch.tensor(middle, dtype=torch.float64))) >= sigma_bar
        low, high = (low, middle) if reached else (middle, high)
    return high


NOISES: dict[str, type[Noise]] = {"loglinear": Loglinear, "geometric": Geometric, "cosine": Cosine}
"""By the `kind` of `diffusion.noise`, whose other fields are the arguments: ranges and defaults are the spec's."""
