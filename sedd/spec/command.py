"""What a job with a program of your own may ask for, such as a folding tool on sampled proteins."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from sedd.spec.resources import ResourcesSpec
from sedd.spec.task import EVERY, TaskSpec
from sedd.yaml import StrictModel


class CommandSpec(StrictModel):
    """Proteins in, a table out, by any program."""

    run: tuple[str, ...] = Field(min_length=1)
    """The program and its arguments, a list; `{fasta}` stands for the proteins, `{out}` for the table to write.

    It runs in the run's own folder; a word that names a file in the spec's folder becomes that file's whole path.
    """
    fasta: Path
    """FASTA file, or the folder of a run with `task: sample`; relative to the spec's own folder."""
    column: str
    """Column of the table that the report shows, `pLDDT` for example."""
    name_column: str = "name"
    """Column of the table that holds the proteins' names."""

    @model_validator(mode="after")
    def _both_places_are_named(self) -> Self:
        text = " ".join(self.run)
        if missing := [place for place in ("{fasta}", "{out}") if place not in text]:
            raise ValueError(f"run does not hold {' and '.join(missing)}")
        return self


class OneProcessSpec(ResourcesSpec):
    """What one process takes, on one node."""

    nodes: Literal[1] = 1
    """One node."""
    spare_nodes: Literal[0] = 0
    """No other node."""
    gpus_per_node: int = Field(default=0, ge=0, le=1)
    """1 if the program uses a GPU; else it sees none, and its job goes to the profile's `cpu` partition."""
    processes_per_node: Literal[1] = 1
    """One process."""


class CommandTask(TaskSpec):
    """A program on proteins; the run's folder holds command.csv, command.json and command.html."""

    FILE_WORDS = (("command", "run", EVERY),)

    task: Literal["command"]
    """Selects a program of your own."""
    resources: OneProcessSpec = OneProcessSpec()
    """What one attempt asks of the cluster."""
    command: CommandSpec
    """Which program, on what."""
