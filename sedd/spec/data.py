"""Which proteins a run sees."""

from pathlib import Path

from pydantic import Field

from sedd.yaml import StrictModel


class DataSpec(StrictModel):
    """Training data: a token store made by `sedd data build`."""

    store: Path
    """Folder of the token store; relative to the spec's own folder. `~` and `$VARIABLES` are expanded."""
    max_length: int = Field(default=512, ge=2)
    """Residues; of a longer protein each epoch sees another random window of this length."""
