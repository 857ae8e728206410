"""Spec of a random search: points drawn from ranges. A point depends on the seed, its number and the field alone."""

import json
import math
import random
from typing import Any, Self

from pydantic import Field, model_validator

from sedd.yaml import StrictModel

Range = tuple[float, float]
WholeRange = tuple[int, int]
_DIGITS = 4
"""Significant digits of a drawn number: more would only make names of runs longer."""
_TRIES = 100
"""Draws for each point that is wanted, where values repeat."""


class DrawSpec(StrictModel):
    """Where the values of a field come from: exactly one of these."""

    uniform: Range | None = None
    """Any number between two: [0.0, 0.3]."""
    log_uniform: Range | None = None
    """Any number between two, each factor as likely as another: [1.0e-4, 1.0e-2]."""
    choice: list[Any] | None = None
    """One of these."""
    int: WholeRange | None = None
    """Any whole number from the first to the last."""

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [kind for kind in type(self).model_fields if getattr(self, kind) is not None]
        if len(given) != 1:
            kinds = ", ".join(type(self).model_fields)
            raise ValueError(f"takes exactly one of {kinds}; given: {', '.join(given) or 'none'}")
        if self.choice is not None and not self.choice:
            raise ValueError("choice has no values")
        for low, high in filter(None, (self.uniform, self.log_uniform, self.int)):
            if low >= high:
                raise ValueError(f"the range [{low:g}, {high:g}] does not rise")
        if self.log_uniform and self.log_uniform[0] <= 0:
            raise ValueError(f"log_uniform begins at {self.log_uniform[0]:g}: it must be above 0")
        return self

    def value(self, u: float) -> Any:
        """The value at a share `u` in [0, 1) of the range."""
        if self.choice is not None:
            return self.choice[math.floor(u * len(self.choice))]
        if self.int is not None:
            first, last = self.int
            return first + math.floor(u * (last - first + 1))
        if self.log_uniform is not None:
            low, high = map(math.log, self.log_uniform)
            return _rounded(math.exp(low + u * (high - low)), self.log_uniform)
        assert self.uniform is not None, "one is given"
        low, high = self.uniform
        return _rounded(low + u * (high - low), self.uniform)


class RandomSearchSpec(StrictModel):
    """Points drawn at random; more of them later leave the first ones as they are."""

    points: int = Field(ge=1)
    """Runs."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Another seed draws other points."""
    over: dict[str, DrawSpec] = Field(min_length=1)
    """Dotted keys to ranges: {training.learning_rate: {log_uniform: [1.0e-4, 1.0e-2]}}."""

    def drawn(self) -> list[dict[str, Any]]:
        """The points, no two alike. Raises: ValueError where there are not this many."""
        found: dict[str, dict[str, Any]] = {}
        for number in range(_TRIES * self.points):
            point = {key: draw.value(_share(self.seed, number, key)) for key, draw in self.over.items()}
            found.setdefault(json.dumps(point, sort_keys=True, default=str), point)
            if len(found) == self.points:
                return list(found.values())
        raise ValueError(f"{self.points} different points are wanted, and {len(found)} were found")


def _share(seed: int, number: int, key: str) -> float:
    """A number in [0, 1) that depends on nothing else. Python keeps the generator's numbers from version to version."""
    return random.Random(f"{seed}/{number}/{key}").random()


def _rounded(value: float, within: Range) -> float:
    low, high = within
    return min(high, max(low, float(f"{value:.{_DIGITS}g}")))
