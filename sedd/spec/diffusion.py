"""Spec of the forward process: graph, noise, parameterization, curriculum."""

import math
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sedd.yaml import StrictModel


class LoglinearSpec(StrictModel):
    """sigma_bar(t) = -log(1 - (1 - epsilon) t): the expected share of masked residues grows linearly."""

    kind: Literal["loglinear"] = "loglinear"
    """Selects this schedule."""
    epsilon: float = Field(default=1e-3, gt=0, lt=1)
    """Probability that a residue is still clean at t = 1."""

    @property
    def total_at_end(self) -> float:
        """sigma_bar(1)."""
        return -math.log(self.epsilon)


class _RangeSpec(StrictModel):
    """Total noise at both ends."""

    sigma_min: float = Field(default=1e-3, gt=0)
    """Total noise at t = 0."""
    sigma_max: float = Field(default=20.0, gt=0)
    """Total noise at t = 1; below about 5, sampling starts outside the trained range."""

    @property
    def total_at_end(self) -> float:
        """sigma_bar(1)."""
        return self.sigma_max

    @model_validator(mode="after")
    def _grows(self) -> Self:
        if self.sigma_min >= self.sigma_max:
            raise ValueError(
                f"sigma_min {self.sigma_min:g} is not below sigma_max {self.sigma_max:g}: noise must grow"
            )
        return self


class GeometricSpec(_RangeSpec):
    """sigma_bar(t) = sigma_min^(1-t) sigma_max^t."""

    kind: Literal["geometric"] = "geometric"
    """Selects this schedule."""


class CosineSpec(_RangeSpec):
    """sigma_bar(t) = sigma_max + (sigma_min - sigma_max)(1 + cos(pi t)) / 2."""

    kind: Literal["cosine"] = "cosine"
    """Selects this schedule."""


NoiseSpec = Annotated[LoglinearSpec | GeometricSpec | CosineSpec, Field(discriminator="kind")]


class SigmaCurriculumSpec(StrictModel):
    """Corrupt with sigma_bar (0.1 + 0.9 f): f grows from 0 to 1 over the preschool."""

    kind: Literal["sigma_scale"] = "sigma_scale"
    """Selects this curriculum."""
    growth: Literal["exponential", "cosine", "linear"] = "exponential"
    """Form of f in step / preschool_steps."""
    preschool_steps: int = Field(ge=1)
    """Steps until the full noise is used."""


class TimeCurriculumSpec(StrictModel):
    """t = U^(1 + b s): more small diffusion times early on; s falls from 1 to 0 over the preschool."""

    kind: Literal["time_bias"] = "time_bias"
    """Selects this curriculum."""
    bias: float = Field(default=1.0, gt=0)
    """b in the formula: 0 would be uniform times."""
    preschool_steps: int = Field(ge=1)
    """Steps until times are uniform."""


CurriculumSpec = Annotated[SigmaCurriculumSpec | TimeCurriculumSpec, Field(discriminator="kind")]


class DiffusionSpec(StrictModel):
    """The forward process and the objective (Lou et al. 2024, arXiv 2310.16834)."""

    graph: Literal["absorbing", "uniform"] = "absorbing"
    """Transition graph: residues jump to the mask, or to any other token."""
    noise: NoiseSpec = LoglinearSpec()
    """Noise schedule."""
    parameterization: Literal["score", "subs"] = "score"
    """Network output: log score (SEDD), or the distribution of the clean residue given the others (SUBS)."""
    estimator: Literal["times", "counts"] = "times"
    """Of the loss: mask each residue on its own at a random time, or a random number of residues of each sequence."""
    time_power: float = Field(default=1.0, ge=1, le=4)
    """Training times are U^p, each loss weighted by p U^(p - 1): the same expected loss. Above 1 small times, whose
    losses vary most, are drawn more often and weigh less."""
    curriculum: CurriculumSpec | None = None
    """Easier corruptions at the start of training; the reported validation bound is always the true one."""

    @model_validator(mode="after")
    def _counts_are_of_masks(self) -> Self:
        if self.estimator == "counts" and (self.graph != "absorbing" or self.curriculum is not None):
            raise ValueError("estimator 'counts' is for graph 'absorbing' without a curriculum; use 'times'")
        if self.time_power != 1 and (self.estimator == "counts" or self.curriculum is not None):
            raise ValueError("time_power is for estimator 'times' without a curriculum")
        return self
