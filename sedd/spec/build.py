"""Spec of a token store to build: inputs, filters, split. For `task: data` and for `sedd data build`."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from sedd.spec.resources import ResourcesSpec
from sedd.spec.task import TaskSpec
from sedd.yaml import StrictModel


class BuildOptions(StrictModel):
    """What decides the content of a store in addition to its input."""

    validation_fraction: float = Field(default=0.05, ge=0, le=0.5)
    """Share of sequences, or of clusters if there are any, in the validation split."""
    clusters: Path | None = None
    """Table with a representative, a tab and a member a line; members of one cluster stay on one side of the split."""
    min_length: int = Field(default=1, ge=1)
    """Residues; shorter sequences are dropped."""
    max_length: int | None = Field(default=None, ge=1)
    """Residues; longer sequences are dropped (training cuts windows out of long ones by itself)."""
    max_unknown: float | None = Field(default=None, ge=0, le=1)
    """Largest fraction of X; sequences with more are dropped."""
    keep_duplicates: bool = False
    """Keep sequences that occur again."""
    limit: int | None = Field(default=None, ge=1)
    """Stop after this many sequences that pass the filters."""
    sample: int | None = Field(default=None, ge=1)
    """Keep this many sequences, drawn uniformly."""
    sample_seed: int = Field(default=0, ge=0)
    """Another seed draws another sample."""
    labels: Path | None = None
    """TSV of labels: a header, then a line a protein, its name first; for networks with conditions."""
    label_numbers: tuple[str, ...] = ()
    """Columns of `labels` that hold numbers, such as a temperature; the others hold categories."""
    onto: Path | None = None
    """A store that the new one begins with; its sequences stay where they are."""

    @model_validator(mode="after")
    def _some_length_is_left(self) -> Self:
        if self.max_length is not None and self.max_length < self.min_length:
            raise ValueError(f"max_length {self.max_length} is less than min_length {self.min_length}")
        return self

    @model_validator(mode="after")
    def _numbers_are_labels(self) -> Self:
        if self.label_numbers and self.labels is None:
            raise ValueError("label_numbers names columns, but labels names no table")
        return self

    @model_validator(mode="after")
    def _nothing_is_added_to_a_sample(self) -> Self:
        if self.sample is not None and self.onto is not None:
            raise ValueError(
                "sample is drawn from all sequences together, not added to a store: leave sample or onto out"
            )
        return self


class BuildSpec(BuildOptions):
    """Files in, a store out."""

    inputs: tuple[Path, ...] = Field(min_length=1)
    """FASTA files, plain or gzip; relative to the spec's own folder. `~` and `$VARIABLES` are expanded."""
    store: Path
    """Folder of the store to make; an existing store from the same input is left as it is."""


class CpuResourcesSpec(ResourcesSpec):
    """Cores, memory and time of one attempt on one node without GPUs."""

    nodes: Literal[1] = 1
    """One node: the build shares its work out over the cores."""
    spare_nodes: Literal[0] = 0
    """No other node."""
    gpus_per_node: Literal[0] = 0
    """No GPU: the job goes to the profile's `cpu` partition."""
    processes_per_node: Literal[1] = 1
    """One process, which starts others as it needs them."""


class DataTask(TaskSpec):
    """A token store built as a job, on a node without GPUs."""

    task: Literal["data"]
    """Selects the building of a token store."""
    build: BuildSpec
    """From what, and what of it."""
    resources: CpuResourcesSpec = CpuResourcesSpec()
    """What one attempt asks of the cluster."""
