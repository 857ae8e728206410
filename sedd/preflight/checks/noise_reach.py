"""How far the noise goes: samplers start from tokens without any trace of a protein, training ends at sigma_bar(1)."""

import math
from dataclasses import dataclass

from sedd.preflight.check import Check, CheckContext, Side, Verdict, ok, warn
from sedd.spec.experiment import Experiment

ENOUGH = 5.0
"""sigma_bar at which 0.7 % of the residues are still what they were: three in a protein of 450."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Of the run whose noise goes least far."""

    kind: str
    """Of the schedule."""
    sigma_bar: float
    """Total noise at t = 1."""


def gather(context: CheckContext) -> Facts:
    noises = (run.diffusion.noise for run in context.training_runs)
    noise = min(noises, key=lambda each: each.total_at_end)
    return Facts(kind=noise.kind, sigma_bar=noise.total_at_end)


def judge(facts: Facts) -> Verdict:
    share = math.exp(-facts.sigma_bar)
    saw = f"{facts.kind} noise ends with {share:.2g} of the residues unchanged (sigma_bar {facts.sigma_bar:.3g})"
    if facts.sigma_bar >= ENOUGH:
        return ok(saw)
    field = "epsilon below 0.006" if facts.kind == "loglinear" else "sigma_max above 5"
    return warn(
        saw, f"sampling starts from pure noise, which is never trained on: diffusion.noise with {field}"
    )


CHECK = Check(
    tasks=(Experiment,),
    sides=(Side.LOGIN,),
    of_request=True,
    catches="a schedule that ends with residues still visible: sampling starts where nothing was trained",
    takes="< 0.1 s",
    passing=Facts(kind="cosine", sigma_bar=20.0),
    failing=Facts(kind="cosine", sigma_bar=2.0),
)
