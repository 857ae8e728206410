"""Spec of what a network is conditioned on beside the noise level: labels of proteins, by the name of their field."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sedd.yaml import Spelling, StrictModel

FIELD_NAME = Spelling(
    r"[A-Za-z][A-Za-z0-9_]{0,31}", "1 to 32 ASCII letters, digits and '_', beginning with a letter"
)
"""What a field may be called: it names a file of the store and a key of the spec."""
FieldName = Annotated[str, FIELD_NAME]
Dropped = Annotated[float, Field(ge=0, le=1)]


class CategorySpec(StrictModel):
    """One of several values, such as an EC number or a family."""

    kind: Literal["category"] = "category"
    """Selects an embedding with a row a value, and one for proteins without."""
    values: int = Field(ge=1, le=1_000_000)
    """Rows for values: at least as many as the store has; more leave room for a larger store."""
    drop: Dropped = 0.0
    """Probability with which this label alone is hidden from a sequence in training."""


class NumberSpec(StrictModel):
    """A number, such as a temperature or a length; the network sees it standardised over the training data."""

    kind: Literal["number"] = "number"
    """Selects features of the number and a linear map."""
    drop: Dropped = 0.0
    """Probability with which this label alone is hidden from a sequence in training."""


LabelSpec = Annotated[CategorySpec | NumberSpec, Field(discriminator="kind")]


class ConditionsSpec(StrictModel):
    """Labels that the network is told, in addition to the noise level."""

    fields: dict[FieldName, LabelSpec] = Field(min_length=1)
    """By the name of a column of the table that the store was built with (`sedd data build --labels`)."""
    drop_all: Dropped = 0.1
    """Probability that all labels of a sequence are hidden in training: so the network learns to do without."""


Condition = dict[FieldName, str | int | float]
"""The labels under which a network is asked; what it does not name is left open."""


class GuidanceOptions(StrictModel):
    """How strongly a condition counts, and a classifier of the user's that steers, too."""

    guidance: float = Field(default=1.0, ge=0, le=100)
    """Weight of the condition: 0 ignores it, 1 is as trained, more insists on it (classifier-free guidance)."""
    guide: str | None = None
    """NAME=TARGET of an installed guide, or module:make=TARGET: a classifier that steers sampling."""
    guide_weight: float = Field(default=1.0, ge=0, le=100)
    """Weight of the guide's log probability."""
    guide_changes: Literal["first_order", "exact"] = "first_order"
    """How a guide is asked: by one gradient a step, or about every single change."""

    @model_validator(mode="after")
    def _weights_a_guide(self) -> Self:
        own = GuidanceOptions.model_fields
        given = [
            name for name in ("guide_weight", "guide_changes") if getattr(self, name) != own[name].default
        ]
        if given and self.guide is None:
            raise ValueError(f"{given[0]} needs a guide, as NAME=TARGET")
        return self

    @property
    def guiding(self) -> "GuidanceOptions":
        """These options alone, of a section that has others, too."""
        return GuidanceOptions(**{name: getattr(self, name) for name in GuidanceOptions.model_fields})
