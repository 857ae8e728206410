"""Read the user's quota on a file system from `quota` or `lfs quota`."""

import os
import re
from dataclasses import dataclass

from sedd.cluster.command import run
from sedd.cluster.users import user_name
from sedd.errors import ClusterError
from sedd.preflight.read.filesystem import Mount

_TIMEOUT_S = 2.0
_ROW = re.compile(r"\s*(?P<name>\S+)\s+(?P<numbers>\d+\*?(?:\s+[\d*-]\S*){5,})\s*")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """What may still be written; None: no limit."""

    left_bytes: int | None
    left_files: int | None


def query_quota(mount: Mount) -> Quota | None:
    """The user's quota on a mount; None where there is none, or nobody says."""
    user = user_name(os.geteuid())
    if mount.kind == "lustre":
        command, name = ["lfs", "quota", "-q", "-u", user, mount.point], mount.point
    else:  # -w: a file system a line; -p: grace as a number, so that no column is empty
        command, name = ["quota", "-w", "-p", "-u", user], mount.source
    try:
        return parse_quota(run(command, timeout_s=_TIMEOUT_S), name)
    except ClusterError:  # no such command, or no quotas here
        return None


def parse_quota(text: str, name: str) -> Quota | None:
    """The row of one file system: KiB used, soft and hard limit, grace; then the same of files. 0 is no limit."""
    for line in text.splitlines():
        row = _ROW.fullmatch(line)
        if row and row["name"] == name:
            used, soft, hard, _, files, files_soft, files_hard = _numbers(row["numbers"])[:7]
            left_kib = _left(used, soft, hard)
            return Quota(
                left_bytes=None if left_kib is None else left_kib << 10,
                left_files=_left(files, files_soft, files_hard),
            )
    return None


def _numbers(text: str) -> list[int]:
    return [int(word) if (word := column.rstrip("*")).isdigit() else 0 for column in text.split()] + [0] * 7


def _left(used: int, soft: int, hard: int) -> int | None:
    """Up to the lower limit that is set: beyond the soft one a run that lasts days would be stopped."""
    limits = [limit for limit in (soft, hard) if limit]
    return max(0, min(limits) - used) if limits else None
