"""Spec of what a run asks of the cluster."""

from typing import Self

from pydantic import Field, model_validator

from sedd.yaml import Bytes, Duration, StrictModel


class ResourcesSpec(StrictModel):
    """Nodes, processes, memory and time of one attempt."""

    nodes: int = Field(default=1, ge=1)
    """Nodes of a job."""
    spare_nodes: int = Field(default=0, ge=0)
    """Nodes beyond `nodes` that a job gets and keeps idle: they take the place of nodes that fail their preflight."""
    gpus_per_node: int = Field(default=1, ge=0)
    """GPUs a node, one process each; 0 trains on the CPU with one process a node."""
    processes_per_node: int | None = Field(default=None, ge=1)
    """Processes (ranks) a node; absent: one a GPU, or one on the CPU."""
    cpus_per_process: int = Field(default=4, ge=1)
    """CPU cores of each process."""
    memory: Bytes = 32 * 2**30
    """Main memory a node."""
    walltime: Duration = 24 * 3600
    """Time limit of one attempt; a run takes as many attempts as it needs."""

    @model_validator(mode="after")
    def _spares_can_be_used(self) -> Self:
        if self.spare_nodes and self.nodes == 1:
            raise ValueError(
                "spare_nodes needs 2 nodes or more: the first node of a job cannot be replaced in it"
            )
        return self

    @property
    def all_nodes(self) -> int:
        """Nodes of a job, spare ones included."""
        return self.nodes + self.spare_nodes

    @property
    def ranks_per_node(self) -> int:
        """Processes a node."""
        return self.processes_per_node or max(1, self.gpus_per_node)

    @property
    def ranks(self) -> int:
        """Processes of the whole job."""
        return self.nodes * self.ranks_per_node
