"""Spec of what a run asks of the cluster."""

from typing import Any, Self

from pydantic import Field, model_validator

from sedd.spec.ranges import Counts, Durations, format_counts, is_duration_range, parse_counts
from sedd.yaml import Bytes, Duration, StrictModel


class ResourcesSpec(StrictModel):
    """Nodes, processes, memory and time of one attempt."""

    nodes: int = Field(default=1, ge=1)
    """Nodes of a job."""
    spare_nodes: int = Field(default=0, ge=0)
    """Nodes beyond `nodes` that a job gets and keeps idle: they take the place of nodes that fail their preflight."""
    gpus: Counts | None = None
    """GPUs of all nodes together, or a range such as `1-8`: `--soonest` picks, else it is the most unless
    `gpus_per_node` is given; absent: `nodes` times `gpus_per_node`."""
    gpus_per_node: int = Field(default=1, ge=0)
    """GPUs a node, one process each; 0 trains on the CPU with one process a node."""
    processes_per_node: int | None = Field(default=None, ge=1)
    """Processes (ranks) a node; absent: one a GPU, or one on the CPU."""
    cpus_per_process: int = Field(default=4, ge=1)
    """CPU cores of each process."""
    memory: Bytes = 32 * 2**30
    """Main memory a node."""
    walltime: Duration = 24 * 3600
    """Time limit of one attempt; a run takes as many attempts as it needs. A range such as `30m-24h` is for
    `--soonest` to pick from, and else its longest."""
    walltimes: Durations | None = None
    """The range that `walltime` was given as."""
    repick: bool = False
    """Whether each further job of the run has the shape of the ranges in which it ends first, as `sedd requeue
    --soonest` picks it; not for the points of a sweep, which keep their places in an array."""

    @model_validator(mode="before")
    @classmethod
    def _ends_of_ranges(cls, data: Any) -> Any:
        """Without a choice a range is its upper end; a shape that was chosen stands beside its range."""
        if not isinstance(data, dict):
            return data
        data = dict(data)
        if is_duration_range(limit := data.get("walltime")):
            data |= {"walltimes": limit, "walltime": str(limit).rpartition("-")[2]}
        if data.get("gpus") is not None and "gpus_per_node" not in data:
            data["gpus_per_node"] = _each_node(data["gpus"], data.get("nodes", 1))
        return data

    @model_validator(mode="after")
    def _goes_together(self) -> Self:
        if self.spare_nodes and self.gpus is not None:
            raise ValueError("gpus and spare_nodes do not go together: write nodes and gpus_per_node")
        if self.gpus is not None and self.processes_per_node not in (None, self.gpus_per_node):
            raise ValueError(
                f"gpus: {format_counts(self.gpus)} means one process a GPU: leave out processes_per_node"
            )
        if self.repick and not self.picked_fields:
            raise ValueError("repick: true needs a range to pick from: gpus: 1-8, or walltime: 30m-24h")
        return self

    @property
    def picked_fields(self) -> tuple[str, ...]:
        """Fields whose values are picked from the ranges."""
        shape = ("nodes", "gpus_per_node") if self.gpus is not None else ()
        return (*shape, *(("walltime",) if self.walltimes is not None else ()))

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


def _each_node(gpus: object, nodes: object) -> int:
    """GPUs a node where the most are taken. Raises: ValueError; what is wrong with the parts, their fields tell."""
    try:
        most = parse_counts(gpus)[1]
    except ValueError:
        return 1
    if isinstance(nodes, int) and nodes > 0 and most % nodes:
        raise ValueError(f"gpus: {most} cannot be shared equally by {nodes} nodes")
    return most // nodes if isinstance(nodes, int) and nodes > 0 else 1
