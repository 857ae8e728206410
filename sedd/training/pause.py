"""Steps at which a run of a sweep may have to wait for its fellows; whoever starts the training knows the sweep."""

from collections.abc import Sequence
from typing import Protocol


class Rungs(Protocol):
    """Where a run is compared with its fellows. A pause changes no number: the schedule is that of all steps."""

    @property
    def steps(self) -> Sequence[int]:
        """The rungs, all of them before the last step."""

    def lets_pass(self, step: int) -> bool:
        """Whether training goes on from this rung, which is validated and saved; rank 0 alone asks."""
