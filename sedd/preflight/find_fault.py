"""Find out whose fault a failed check on a node is, where that depends on the node and the site."""

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from sedd.cluster.profile import SlurmProfile
from sedd.cluster.site import Node
from sedd.errors import ClusterError
from sedd.preflight.context import CheckContext
from sedd.preflight.finding import Fault
from sedd.preflight.read.filesystem import existing


def find_fault(fault: Fault, paths: Iterable[Path], context: CheckContext) -> Fault:
    """JOB, NODE, DISK or PEER; `paths` are the files that the check opens."""
    if fault is Fault.FILES:
        return Fault.JOB if all(_sees(path, context) for path in paths) else Fault.NODE
    if fault is Fault.CARD:
        return Fault.JOB if _gets_one_kind(context) else Fault.NODE
    return fault


def _sees(path: Path, context: CheckContext) -> bool:
    """Whether a file is there, or is missing in a file system that this node sees: that of the run folder.

    A folder that is empty may be the place of a file system that this node lacks; so may one of the root folder.
    """
    if context.site is None:
        return True  # a local run: there is no other node to try
    with contextlib.suppress(OSError):
        nearest = existing(path)
        if nearest == path:
            return True
        is_of_run = nearest.stat().st_dev == existing(context.folder).stat().st_dev
        return is_of_run and nearest != Path(nearest.anchor) and any(nearest.iterdir())
    return False


def _gets_one_kind(context: CheckContext) -> bool:
    """Whether all nodes on which the job may run have the same kind of card, as far as SLURM tells."""
    if context.site is None:
        return True
    try:
        return is_one_kind(context.query_own_nodes(), context.site)
    except ClusterError:
        return False


def is_one_kind(nodes: Sequence[Node], profile: SlurmProfile) -> bool:
    """Whether the nodes with GPUs that the profile leaves have the same GPU type and features; False if there is none.

    Cards of one type may differ in memory: sites that have such tell them apart by a feature.
    """
    kinds = {
        (frozenset(node.gpus), frozenset(node.features))
        for node in nodes
        if node.gpus
        and profile.gpu.type in (None, *node.gpus)
        and (profile.constraint in (None, *node.features) or not _is_feature(profile.constraint))
    }
    return len(kinds) == 1


def _is_feature(constraint: str | None) -> bool:
    """Whether a constraint is the name of one feature, not an expression."""
    return constraint is not None and constraint.replace("_", "").replace("-", "").isalnum()
