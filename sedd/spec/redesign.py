"""Redesign: proteins that are hidden by noise in part and drawn anew."""

import re
from pathlib import Path

from pydantic import Field, field_validator

from sedd.yaml import StrictModel

_RANGE = re.compile(r"([0-9]{1,9})(?:-([0-9]{1,9}))?")


class RedesignOptions(StrictModel):
    """How far a redesign may go from its parent."""

    noise: float = Field(default=0.3, gt=0, le=1)
    """Share of the residues that are hidden and drawn anew, 1 - exp(-sigma_bar); on the uniform graph: replaced."""
    keep: str = ""
    """Positions that stay, from 1, ends included: 24-60,88."""
    max_mutations: int | None = Field(default=None, ge=1)
    """Mutations of a redesign at most: no more residues are hidden."""

    @field_validator("keep", mode="before")
    @classmethod
    def _one_position_is_a_number_in_yaml(cls, keep: object) -> object:
        return str(keep) if isinstance(keep, int) and not isinstance(keep, bool) else keep

    @field_validator("keep")
    @classmethod
    def _ranges_make_sense(cls, keep: str) -> str:
        parse_ranges(keep)
        return keep

    @property
    def kept_ranges(self) -> tuple[tuple[int, int], ...]:
        """First and last position of each range."""
        return parse_ranges(self.keep)


class RedesignSpec(RedesignOptions):
    """Which proteins are redesigned, and how far."""

    parent: Path
    """FASTA of the proteins to redesign; each is redesigned on its own."""


def parse_ranges(text: str) -> tuple[tuple[int, int], ...]:
    """`24-60,88` as ((24, 60), (88, 88)). Raises: ValueError."""
    ranges = []
    for part in text.split(",") if text.strip() else ():
        found = _RANGE.fullmatch(part.strip())
        if found is None:
            raise ValueError(f"keep is '{part.strip()[:40]}': write positions and ranges as 24-60,88")
        first, last = int(found[1]), int(found[2] or found[1])
        if first > last:
            raise ValueError(f"keep is '{part.strip()}': the first number must not be larger than the second")
        if not first:
            raise ValueError(f"keep is '{part.strip()}': positions are counted from 1")
        ranges.append((first, last))
    return tuple(ranges)
