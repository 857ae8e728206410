"""What there is to know about a site before its profile is written: SLURM's answers, and the user's shell."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sedd.cluster.accounts import query_choices, query_qos_walltimes
from sedd.cluster.assoc_state import QosChoice
from sedd.cluster.site import Node, Partition, SiteConfig, query_config, query_nodes, query_partitions
from sedd.cluster.users import user_name
from sedd.errors import ClusterError

_NODE_FOLDERS = ("JOBSCRATCH", "SLURM_TMPDIR", "LOCAL_SCRATCH", "LOCALSCRATCH", "TMP_LOCAL")
"""Variables by which sites name a node's own fast folder; in a login shell few of them are set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFacts:
    """All that a profile is proposed from."""

    config: SiteConfig
    partitions: tuple[Partition, ...]
    nodes: tuple[Node, ...]
    user: str
    python: str
    """The Python that runs now."""
    choices: tuple[QosChoice, ...] | None = None
    """The user's associations; None: there is no slurmdbd, or it does not answer."""
    qos_walltimes: Mapping[str, int | None] = field(default_factory=dict)
    """The longest time limit of each QOS, in seconds; None: it sets none."""
    node_folders: tuple[str, ...] = ()
    """Folders that may be the nodes' own, as a job would write them: `$JOBSCRATCH`."""
    modules: tuple[str, ...] = ()
    """Modules that are loaded now."""


def query_site(environ: Mapping[str, str] = os.environ) -> SiteFacts:
    """Ask SLURM and the environment. Raises: SlurmUnreachableError, ClusterError when SLURM does not answer."""
    config = query_config()
    user = user_name(os.geteuid())
    choices, walltimes = _ask_accounting(config, user)
    return SiteFacts(
        config=config,
        partitions=tuple(query_partitions()),
        nodes=tuple(query_nodes()),
        user=user,
        python=sys.executable,
        choices=choices,
        qos_walltimes=walltimes,
        node_folders=find_node_folders(environ),
        modules=tuple(name for name in environ.get("LOADEDMODULES", "").split(":") if name),
    )


def _ask_accounting(
    config: SiteConfig, user: str
) -> tuple[tuple[QosChoice, ...] | None, dict[str, int | None]]:
    if not config.has_accounting:
        return None, {}
    try:
        return tuple(query_choices(user)), query_qos_walltimes()
    except ClusterError:
        return None, {}  # slurmdbd is down, or not for everybody


def find_node_folders(environ: Mapping[str, str], root: Path = Path("/")) -> tuple[str, ...]:
    """Folders that may belong to a node alone: by the variables of this shell, and by usual names below `root`."""
    named = [f"${name}" for name in _NODE_FOLDERS if environ.get(name)]
    usual = [name for name in ("scratch", "localscratch", "local", "lscratch") if (root / name).is_dir()]
    return (*named, *(f"/{name}/$USER" for name in usual))
