"""Spec of successive halving: at given steps only the best share of a sweep's points goes on."""

import math
from collections.abc import Iterator
from fractions import Fraction
from typing import Literal, Self

from pydantic import Field, model_validator

from sedd.spec.experiment import Experiment
from sedd.spec.task import TaskSpec
from sedd.yaml import StrictModel


class HalvingSpec(StrictModel):
    """Points pause at each rung; the best go on, the others are stopped (Li et al. 2020, arXiv 1810.05934)."""

    metric: Literal["validation"] = "validation"
    """What decides, the lowest being the best: the likelihood bound that is validated at the rung's step."""
    rungs: tuple[int, ...] = Field(min_length=1)
    """Steps at which points are compared, rising: [2000, 6000, 18000]. A last one at training.steps decides nothing."""
    keep: str | float = "1/3"
    """Share of the points of a rung that goes on, rounded up: 1/3, or 0.25."""

    @model_validator(mode="after")
    def _rises(self) -> Self:
        if self.rungs[0] < 1 or any(
            low >= high for low, high in zip(self.rungs, self.rungs[1:], strict=False)
        ):
            raise ValueError(f"rungs are steps that rise, from 1 on; seen {', '.join(map(str, self.rungs))}")
        if not 0 < self.share < 1:
            raise ValueError(f"keep is {self.keep}: it must lie between 0 and 1, as 1/3")
        return self

    @property
    def share(self) -> Fraction:
        """`keep` as an exact number. Raises: ValueError where it is none."""
        try:
            return Fraction(str(self.keep))
        except (ValueError, ZeroDivisionError):
            raise ValueError(f"keep is {self.keep!r}: write a share such as 1/3 or 0.25") from None

    def places(self, points: int) -> tuple[int, ...]:
        """How many points come to the first rung, to the second, …, and how many go on after the last one."""
        counts = [points]
        for _ in self.rungs:
            counts.append(math.ceil(counts[-1] * self.share))
        return tuple(counts)

    def decisive(self, steps: int) -> tuple[int, ...]:
        """The rungs at which something is decided: those before the last step."""
        return tuple(rung for rung in self.rungs if rung < steps)

    def outlook(self, points: int, steps: int) -> str:
        """`halving: of 27 points 9 go on from step 2,000, 3 from 6,000; 26% of all steps`."""
        decisive, counts = self.decisive(steps), self.places(points)
        share = sum(
            count * (end - start)
            for count, start, end in zip(counts, (0, *decisive), (*decisive, steps), strict=False)
        ) / (points * steps)
        ways = [f"{count} from {rung:,}" for count, rung in zip(counts[1:], decisive, strict=False)]
        go = "goes" if counts[1] == 1 else "go"
        ways[0] = ways[0].replace(" from", f" {go} on from step", 1)
        return f"halving: of {points} points {', '.join(ways)}; {share:.0%} of all steps"

    def complaints(self, experiment: TaskSpec) -> Iterator[str]:
        """Why this point of the sweep cannot be halved; nothing where it can."""
        if not isinstance(experiment, Experiment):
            yield f"halving compares trainings by their validation; task is {experiment.task}"
            return
        every, steps = experiment.training.validation.every_steps, experiment.steps
        if not self.decisive(steps):
            yield f"rungs begin at {self.rungs[0]}, and training.steps is {steps}: nothing would be stopped"
        elif self.rungs[-1] > steps:
            yield f"rung {self.rungs[-1]} lies beyond training.steps, which is {steps}"
        for rung in self.decisive(steps):
            if rung % every:
                yield (
                    f"nothing is validated at rung {rung}: "
                    f"it is no multiple of training.validation.every_steps, which is {every}"
                )
