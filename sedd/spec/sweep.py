"""Spec of a sweep: many runs from values over dotted keys."""

import itertools
import json
import math
from collections.abc import Iterator
from typing import Any, Self

from pydantic import Field, model_validator

from sedd.spec.halving import HalvingSpec
from sedd.spec.random_search import RandomSearchSpec
from sedd.yaml import StrictModel
from sedd.yaml_text import assignments

Point = dict[str, Any]
MOST_POINTS = 10_000
"""Runs of one sweep: what `sedd status` was made for."""


class SweepSpec(StrictModel):
    """Exactly one of grid, zip, random or list."""

    grid: dict[str, list[Any]] | None = None
    """Every combination: {training.learning_rate: [1.0e-4, 3.0e-4], seed: [0, 1]} makes four runs."""
    zip: dict[str, list[Any]] | None = None
    """Values taken together: lists of equal length."""
    random: RandomSearchSpec | None = None
    """Points drawn from ranges: {points: 40, over: {training.learning_rate: {log_uniform: [1.0e-4, 1.0e-2]}}}."""
    list: tuple[dict[str, Any], ...] | None = None
    """Points written out, one mapping each."""
    halving: HalvingSpec | None = None
    """Stop losers early: {rungs: [2000, 6000, 18000], keep: 1/3}. Any of the four above says which points there are."""
    parallel: int | None = Field(default=None, ge=1)
    """Points that may run at the same time; absent: as many as the cluster lets."""

    @model_validator(mode="before")
    @classmethod
    def _names_its_kind(cls, data: Any) -> Any:
        if isinstance(data, dict):
            bare = [str(k) for k, v in data.items() if k not in cls.model_fields and isinstance(v, list)]
            if bare:
                keys = ", ".join(bare)
                raise ValueError(f"put {keys} below 'grid:' (every combination) or 'zip:' (values together)")
        return data

    @model_validator(mode="after")
    def _one_kind(self) -> Self:
        given = [kind for kind in ("grid", "zip", "random", "list") if getattr(self, kind)]
        if len(given) != 1:
            raise ValueError(
                f"a sweep takes exactly one of grid, zip, random, list; given: {', '.join(given) or 'none'}"
            )
        for key, values in {**(self.grid or {}), **(self.zip or {})}.items():
            if not values:
                raise ValueError(f"{key} has no values: a sweep over nothing makes no run")
        for key, value in (pair for point in self.list or () for pair in point.items()):
            if "." not in key and isinstance(value, dict):
                raise ValueError(
                    f"write dotted keys, such as {key}.{next(iter(value), 'field')}, not sections"
                )
        if self.zip and len({len(values) for values in self.zip.values()}) > 1:
            sizes = ", ".join(f"{key}: {len(values)}" for key, values in self.zip.items())
            raise ValueError(f"zip needs lists of equal length; seen {sizes}")
        return self._with_different_points()

    def _with_different_points(self) -> Self:
        sizes = [len(values) for values in (self.grid or self.zip or {}).values()]
        written = self.random.points if self.random else len(self.list or ())
        count = math.prod(sizes) if self.grid else written or sizes[0]
        if count > MOST_POINTS:
            raise ValueError(f"a sweep of {count:,} runs; {MOST_POINTS:,} are the most")
        seen: set[tuple[tuple[str, str], ...]] = set()
        for point in self.points():
            same = tuple(sorted((key, _comparable(value)) for key, value in point.items()))
            if same in seen:
                raise ValueError(f"two runs of the sweep are the same: {assignments(point)}")
            seen.add(same)
        if self.halving and count < 2:
            raise ValueError("halving needs two points at least")
        return self

    def points(self) -> Iterator[Point]:
        """The overrides of each run, as dotted keys to values."""
        if self.grid:
            for values in itertools.product(*self.grid.values()):
                yield dict(zip(self.grid, values, strict=True))
        elif self.zip:
            for values in zip(*self.zip.values(), strict=True):
                yield dict(zip(self.zip, values, strict=True))
        elif self.random:
            yield from self.random.drawn()
        else:
            yield from self.list or ()


def _comparable(value: Any) -> str:
    """Equal for values that a spec reads alike, as 1.0e-3 and 0.001."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return repr(float(value)) if is_number else json.dumps(value, sort_keys=True, default=str)
