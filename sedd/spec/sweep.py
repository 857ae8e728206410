"""Many runs from one spec: values over dotted keys."""

import itertools
from collections.abc import Iterator
from typing import Any, Self

from pydantic import Field, model_validator

from sedd.yaml import StrictModel

Point = dict[str, Any]


class SweepSpec(StrictModel):
    """Exactly one of grid, zip or list."""

    grid: dict[str, list[Any]] | None = None
    """Every combination: {training.learning_rate: [1.0e-4, 3.0e-4], seed: [0, 1]} makes four runs."""
    zip: dict[str, list[Any]] | None = None
    """Values taken together: lists of equal length."""
    list: tuple[dict[str, Any], ...] | None = None
    """Points written out, one mapping each."""
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
        given = [kind for kind in ("grid", "zip", "list") if getattr(self, kind)]
        if len(given) != 1:
            raise ValueError(
                f"a sweep takes exactly one of grid, zip, list; given: {', '.join(given) or 'none'}"
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
        return self

    def points(self) -> Iterator[Point]:
        """The overrides of each run, as dotted keys to values."""
        if self.grid:
            for values in itertools.product(*self.grid.values()):
                yield dict(zip(self.grid, values, strict=True))
        elif self.zip:
            for values in zip(*self.zip.values(), strict=True):
                yield dict(zip(self.zip, values, strict=True))
        else:
            yield from self.list or ()
