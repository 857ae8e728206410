"""Curricula: easier corruptions in the first `preschool_steps` steps. They change what is trained, never the bound."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


class Curriculum(ABC):
    """How far noise and times are eased at a step."""

    __slots__ = ()

    @abstractmethod
    def sigma_scale(self, step: int) -> float:
        """Factor on sigma_bar; 1 once the preschool is over."""

    @abstractmethod
    def bend_times(self, u: Float[Tensor, "sequences"], step: int) -> Float[Tensor, "sequences"]:
        """Uniforms in [0, 1] bent towards 0; unchanged once the preschool is over."""


GROWTHS: dict[str, Callable[[float], float]] = {
    "exponential": lambda p: math.expm1(-5 * p) / math.expm1(-5),
    "cosine": lambda p: (1 - math.cos(math.pi * p)) / 2,
    "linear": lambda p: p,
}
"""f of p = step / preschool_steps; each goes from f(0) = 0 to f(1) = 1."""


@dataclass(frozen=True, slots=True)
class SigmaScale(Curriculum):
    """Corrupt with sigma_bar (0.1 + 0.9 f)."""

    preschool_steps: int
    growth: str

    def sigma_scale(self, step: int) -> float:
        return 0.1 + 0.9 * GROWTHS[self.growth](_progress(step, self.preschool_steps))

    def bend_times(self, u: Float[Tensor, "sequences"], step: int) -> Float[Tensor, "sequences"]:
        return u


@dataclass(frozen=True, slots=True)
class TimeBias(Curriculum):
    """t = U^(1 + b s): small times come more often; s falls from 1 to 0."""

    preschool_steps: int
    bias: float

    def sigma_scale(self, step: int) -> float:
        return 1.0

    def bend_times(self, u: Float[Tensor, "sequences"], step: int) -> Float[Tensor, "sequences"]:
        remaining = 1 - _progress(step, self.preschool_steps)
        return u ** (1 + self.bias * remaining)


CURRICULA: dict[str, type[Curriculum]] = {"sigma_scale": SigmaScale, "time_bias": TimeBias}
"""By the `kind` of `diffusion.curriculum`, whose other fields are the arguments."""


def _progress(step: int, preschool_steps: int) -> float:
    return min(1.0, step / preschool_steps)
