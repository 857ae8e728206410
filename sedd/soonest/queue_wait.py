"""How long a job would wait: SLURM's own estimate, and the gaps that it fills with short jobs. Submits nothing."""

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sedd.cluster.command import SlurmUnreachableError
from sedd.cluster.control import sbatch_test_only
from sedd.cluster.profile import SlurmProfile
from sedd.cluster.sbatch import parse_expected_start
from sedd.cluster.site import Node, query_config, query_nodes, query_partitions, query_reserved_nodes
from sedd.cluster.squeue import query_waiting
from sedd.errors import ClusterError
from sedd.launch.resources import granted_walltime_s, render_sbatch, slurm_parameters
from sedd.soonest.claims import claiming, first_due
from sedd.spec.experiment import Experiment

MARGIN_S = 60.0
"""Before the first waiting job is due: SLURM looks for gaps every half a minute or so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What the partition has, and what of it is free.

    Attributes:
        cards: of each node that works; `free`: those of it that no job holds, in the same order.
        first_due: when the first job that may claim free cards is to start; None: SLURM plans no such start.
        unclaimed: cards of nodes that are free for as long as you like, since of the jobs that wait none can claim
            them; empty where this is not known, or nothing waits.
    """

    cards: tuple[int, ...] = ()
    free: tuple[int, ...] = ()
    first_due: dt.datetime | None = None
    unclaimed: tuple[int, ...] = ()

    @property
    def most_per_node(self) -> int:
        """Cards of the largest node; 0 where none is seen."""
        return max(self.cards, default=0)

    def is_gap_for(self, *, nodes: int, gpus_per_node: int, until: dt.datetime) -> bool:
        """Whether this many cards are free now, and given back before the first waiting job is due."""
        if self.first_due is None or until + dt.timedelta(seconds=MARGIN_S) > self.first_due:
            return False
        return _fits(self.free, nodes, gpus_per_node)

    def is_unclaimed_for(self, *, nodes: int, gpus_per_node: int) -> bool:
        """Whether this many cards are free now, and no waiting job can claim them."""
        return _fits(self.unclaimed, nodes, gpus_per_node)


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
        waiting = query_waiting(partitions)
    except SlurmUnreachableError:
        raise
    except ClusterError:  # some sites show users neither nodes nor others' jobs
        return Room()
    room = room_of(nodes, site.gpu.type, first_due(waiting))
    if not waiting or claiming(waiting):
        return room
    unclaimed = _query_unclaimed_nodes(nodes)
    return replace(room, unclaimed=room_of(unclaimed, site.gpu.type, None).free)


def _query_unclaimed_nodes(nodes: Sequence[Node]) -> list[Node]:
    """Those that no reservation takes, if no job of another partition of these nodes may claim them either."""
    try:
        if "jobs" in query_config().private:  # others' jobs may wait unseen
            return []
        if claiming(query_waiting({name for node in nodes for name in node.partitions})):
            return []
        reserved = query_reserved_nodes()
    except SlurmUnreachableError:
        raise
    except ClusterError:
        return []
    return [node for node in nodes if node.name not in reserved]


def room_of(nodes: Sequence[Node], kind: str | None, due: dt.datetime | None) -> Room:
    """The room on these nodes for jobs that want cards of a type, or of any."""
    cards = [node.gpus.get(kind, 0) if kind else sum(node.gpus.values()) for node in nodes]
    free = [max(0, count - node.used_gpus) for count, node in zip(cards, nodes, strict=True)]
    return Room(cards=tuple(cards), free=tuple(free), first_due=due)


def _fits(free: Sequence[int], nodes: int, gpus_per_node: int) -> bool:
    return sum(count >= gpus_per_node for count in free) >= nodes


def query_wait(experiment: Experiment, profile: SlurmProfile, room: Room) -> Wait:
    """By `sbatch --test-only`, with the very script that would be submitted.

    SLURM answers with the time at which the cards are free, plus the work that waits before the job. It does not say
    that a job which ends before the first waiting one is due starts in its gap; that is added here. After a requeue
    there may be none: then SLURM's answer counts. The work that waits includes that of jobs which can never start:
    where no others wait, cards that are free are free at once, now and after a requeue.

    Raises:
        ClusterError: SLURM does not take the job. SlurmUnreachableError: no answer.
    """
    nowhere = Path("/nonexistent")
    parameters = slurm_parameters(experiment, profile, code=nowhere, submitit=nowhere)
    start = parse_expected_start(sbatch_test_only(render_sbatch(parameters, submitit=nowhere, tasks=1)))
    now, asked = dt.datetime.now(dt.UTC), experiment.resources
    wait_s = max(0.0, (start - now).total_seconds()) if start else 0.0
    if room.is_unclaimed_for(nodes=asked.nodes, gpus_per_node=asked.gpus_per_node):
        return Wait(first_s=0.0, again_s=0.0)
    until = now + dt.timedelta(seconds=granted_walltime_s(experiment, profile))
    is_gap = room.is_gap_for(nodes=asked.nodes, gpus_per_node=asked.gpus_per_node, until=until)
    return Wait(first_s=0.0 if is_gap else wait_s, again_s=wait_s)
