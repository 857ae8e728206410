"""How long a job would wait: SLURM's own estimate, and the gaps that it fills with short jobs. Submits nothing."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sedd.cluster.command import SlurmUnreachableError
from sedd.cluster.control import sbatch_test_only
from sedd.cluster.profile import SlurmProfile
from sedd.cluster.sbatch import parse_expected_start
from sedd.cluster.site import Node, query_nodes, query_partitions
from sedd.cluster.squeue import query_first_due
from sedd.errors import ClusterError
from sedd.launch.resources import granted_walltime_s, render_sbatch, slurm_parameters
from sedd.spec.experiment import Experiment

MARGIN_S = 60.0
"""Before the first waiting job is due: SLURM looks for gaps every half a minute or so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What the partition has, and what of it is free.

    Attributes:
        cards: of each node that works; `free`: those of it that no job holds, in the same order.
        first_due: when the first waiting job is to start; None: nothing waits, or SLURM does not show it.
    """

    cards: tuple[int, ...] = ()
    free: tuple[int, ...] = ()
    first_due: dt.datetime | None = None

    @property
    def most_per_node(self) -> int:
        """Cards of the largest node; 0 where none is seen."""
        return max(self.cards, default=0)

    def is_gap_for(self, *, nodes: int, gpus_per_node: int, until: dt.datetime) -> bool:
        """Whether this many cards are free now, and given back before the first waiting job is due."""
        if self.first_due is None or until + dt.timedelta(seconds=MARGIN_S) > self.first_due:
            return False
        return sum(free >= gpus_per_node for free in self.free) >= nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Seconds to the start of a job now, and of its like after a requeue."""

    first_s: float
    again_s: float


def query_room(profile: SlurmProfile) -> Room:
    """The cards of the profile's partition, and when its first waiting job is due.

    Raises:
        SlurmUnreachableError: SLURM does not answer.
    """
    site = profile.for_job(gpus_per_node=1)
    try:
        partitions = set((site.partition or "").split(",")) - {""}
        if not partitions:
            partitions = {each.name for each in query_partitions() if each.is_default}
        nodes = [n for n in query_nodes() if partitions & set(n.partitions) and n.is_usable]
        due = query_first_due(",".join(sorted(partitions)))
    except SlurmUnreachableError:
        raise
    except ClusterError:  # some sites show users neither nodes nor others' jobs
        return Room()
    return room_of(nodes, site.gpu.type, due)


def room_of(nodes: Sequence[Node], kind: str | None, first_due: dt.datetime | None) -> Room:
    """The room on these nodes for jobs that want cards of a type, or of any."""
    cards = [node.gpus.get(kind, 0) if kind else sum(node.gpus.values()) for node in nodes]
    free = [max(0, count - node.used_gpus) for count, node in zip(cards, nodes, strict=True)]
    return Room(cards=tuple(cards), free=tuple(free), first_due=first_due)


def query_wait(experiment: Experiment, profile: SlurmProfile, room: Room) -> Wait:
    """By `sbatch --test-only`, with the very script that would be submitted.

    SLURM answers with the time at which the cards are free, plus the work that waits before the job. It does not say
    that a job which ends before the first waiting one is due starts in its gap; that is added here. After a requeue
    there may be none: then SLURM's answer counts.

    Raises:
        ClusterError: SLURM does not take the job. SlurmUnreachableError: no answer.
    """
    nowhere = Path("/nonexistent")
    parameters = slurm_parameters(experiment, profile, code=nowhere, submitit=nowhere)
    start = parse_expected_start(sbatch_test_only(render_sbatch(parameters, submitit=nowhere, tasks=1)))
    now, asked = dt.datetime.now(dt.UTC), experiment.resources
    wait_s = max(0.0, (start - now).total_seconds()) if start else 0.0
    until = now + dt.timedelta(seconds=granted_walltime_s(experiment, profile))
    is_gap = room.is_gap_for(nodes=asked.nodes, gpus_per_node=asked.gpus_per_node, until=until)
    return Wait(first_s=0.0 if is_gap else wait_s, again_s=wait_s)
