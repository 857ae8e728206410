"""Spec of the proteins that a run sees."""

import os
from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from sedd.yaml import StrictModel


class MixtureSpec(StrictModel):
    """More stores to train on: every micro-batch holds residues of all of them, in fixed shares."""

    stores: tuple[Path, ...] = Field(min_length=1)
    """Folders of further token stores, written as `data.store`, on which alone the run is validated."""
    temperature: float = Field(default=1.0, ge=1)
    """A store's share is proportional to (residues)^(1/temperature): 1 is by size, much larger is all alike."""


class DataSpec(StrictModel):
    """Training data: a token store made by `sedd data build`, or a mixture of several."""

    store: Path
    """Folder of the token store; relative to the spec's own folder. `~` and `$VARIABLES` are expanded."""
    mixture: MixtureSpec | None = None
    """Further stores; absent: `store` alone."""
    max_length: int = Field(default=512, ge=2)
    """Residues; of a longer protein each epoch sees another random window of this length."""
    stage: str | None = None
    """Folder on the node to which stores are copied first, such as `$SLURM_TMPDIR`; absent: the profile's, if any."""

    @model_validator(mode="after")
    def _each_store_once(self) -> Self:
        named = list(map(os.path.normpath, self.stores))
        if twice := next((store for store in named if named.count(store) > 1), None):
            where = " (data.store is in the mixture by itself)" if twice == named[0] else ""
            raise ValueError(f"mixture.stores names {twice} twice{where}: its proteins would count double")
        return self

    @property
    def stores(self) -> tuple[Path, ...]:
        """All stores; the first one is that of the validation."""
        return (self.store, *(self.mixture.stores if self.mixture else ()))
