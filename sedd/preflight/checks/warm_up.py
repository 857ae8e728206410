"""Whether the learning rate is one that trains, and is reached: a warm-up may be as long as the whole training."""

from dataclasses import dataclass

from sedd.preflight.check import Check, CheckContext, Side, Verdict, ok, warn
from sedd.spec.experiment import Experiment

_FAR_TOO_HIGH = 0.1
"""Thirty times what the best recipes here use."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """Of the run whose warm-up takes the largest share of its steps."""

    warmup_steps: int
    steps: int
    learning_rate: float
    """The peak, which the warm-up leads to."""
    highest: float = 0.0
    """The highest of all runs."""


def gather(context: CheckContext) -> Facts:
    longest = max(
        (run.training for run in context.training_runs), key=lambda spec: spec.warmup_steps / spec.steps
    )
    return Facts(
        warmup_steps=longest.warmup_steps,
        steps=longest.steps,
        learning_rate=longest.learning_rate,
        highest=max(run.training.learning_rate for run in context.training_runs),
    )


def judge(facts: Facts) -> Verdict:
    if facts.highest > _FAR_TOO_HIGH:
        return warn(
            f"a learning rate of {facts.highest:g} makes a training diverge",
            "training.learning_rate: 1e-4 to 3e-3 are usual",
        )
    saw = f"{facts.warmup_steps:,} of {facts.steps:,} steps are warm-up"
    if facts.warmup_steps < facts.steps:
        return ok(saw)
    reached = facts.learning_rate * facts.steps / facts.warmup_steps
    return warn(
        f"the warm-up takes {facts.warmup_steps:,} steps and the training {facts.steps:,}: the learning rate rises to "
        f"the end, to {reached:.2g} of {facts.learning_rate:.2g}",
        "training.warmup_steps below training.steps: a few per cent of them are usual",
    )


CHECK = Check(
    tasks=(Experiment,),
    sides=(Side.LOGIN,),
    of_request=True,
    catches="a learning rate far above any that trains; a warm-up that is not over when the training ends: the "
    "learning rate never reaches its value",
    takes="< 0.1 s",
    passing=Facts(warmup_steps=1000, steps=200_000, learning_rate=3e-4),
    failing=Facts(warmup_steps=500, steps=10, learning_rate=3e-4),
)
