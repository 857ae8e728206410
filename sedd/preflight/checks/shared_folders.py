"""Do the nodes see what this machine sees? Runs, data and Python, as far as the kind of file system tells."""

import sys
from dataclasses import dataclass
from pathlib import Path

from sedd.errors import ClusterError
from sedd.preflight.check import Check, CheckContext, Side, Verdict, ok, unknown, warn
from sedd.preflight.read.filesystem import Mount, query_mount

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    folders: tuple[tuple[str, Path, Mount | None], ...]
    """What it is for, where it is, and the mount under it."""
    is_whole_cluster: bool
    """Whether all nodes of the partition are this very machine."""


def gather(context: CheckContext) -> Facts | None:
    if context.site is None:
        return None
    runs = context.folder
    elsewhere = [path for path in context.experiment.folders() if not path.is_relative_to(runs)]
    folders = [("runs", runs), *(("data", path) for path in elsewhere)]
    if not context.site.setup and not context.site.container:  # those bring a Python of their own
        folders.append(("Python", Path(sys.prefix)))
    return Facts(
        folders=tuple((purpose, path, query_mount(path)) for purpose, path in folders),
        is_whole_cluster=_is_whole_cluster(context),
    )


def judge(facts: Facts) -> Verdict:
    kinds = ", ".join(f"{purpose} on {mount.kind if mount else '?'}" for purpose, _, mount in facts.folders)
    if facts.is_whole_cluster:
        return ok(f"{kinds}; all nodes are this machine")
    local = [
        (purpose, path, mount) for purpose, path, mount in facts.folders if mount and mount.is_node_local
    ]
    if local:
        seen = ", ".join(f"{purpose} in {path} ({mount.kind})" for purpose, path, mount in local)
        named = "; ".join(dict.fromkeys(_NAMED[purpose] for purpose, _, _ in local))
        return warn(
            f"on a disk of this machine alone, it seems: {seen}",
            f"nodes need them too: move them to a shared file system ({named})",
        )
    if any(mount is None for _, _, mount in facts.folders):
        return unknown(f"{kinds}: /proc/self/mounts does not say")
    return ok(f"{kinds}: file systems that nodes usually share")


def _is_whole_cluster(context: CheckContext) -> bool:
    """Whether as many of SLURM's node daemons run here as the partition has nodes."""
    try:
        nodes = context.query_own_nodes()
    except ClusterError:  # the check `partition` says so
        return False
    return 0 < len(nodes) <= sum(_process_name(folder) == "slurmd" for folder in _PROC.glob("[0-9]*"))


def _process_name(folder: Path) -> str:
    try:
        return (folder / "comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:  # it ended meanwhile
        return ""


_NAMED = {"runs": "SEDD_RUNS for runs", "data": "data.store", "Python": "the environment"}
"""What to change for each of the folders."""

_SHARED = Mount(point="/home", kind="nfs4", source="server:/home")
_OWN = Mount(point="/", kind="ext4", source="/dev/sda1")

CHECK = Check(
    sides=(Side.LOGIN,),
    catches="runs, data or Python on a disk that the nodes do not see",
    takes="0.1 s",
    passing=Facts(folders=(("runs", Path("/home/ada/runs"), _SHARED),), is_whole_cluster=False),
    failing=Facts(folders=(("runs", Path("/var/tmp/runs"), _OWN),), is_whole_cluster=False),
)
