"""The name of a training process, as `top` and `ps -o pid,comm` show it: which attempt it works for, and as which rank.

A process that has stood by since an earlier attempt (`sedd/job/standby.py`) still shows that one's environment in
`/proc`; its name is what tells.
"""

import ctypes
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

STANDING_BY = "sedd standby"

_PR_SET_NAME = 15
_NAME = re.compile(r"sedd a(\d+) r(\d+)")


@dataclass(frozen=True, slots=True)
class Place:
    """What a training process works as."""

    attempt: int
    rank: int

    def __str__(self) -> str:
        return f"sedd a{self.attempt} r{self.rank}"  # Linux keeps 15 characters: 999 attempts, 9,999 ranks


def name_process(name: str) -> None:
    """Give this process a name."""
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode(), 0, 0, 0)


def find_place(pid: int) -> Place | None:
    """What a process works as, by its name, else by the environment that it was started with; None if neither tells."""
    try:
        name = Path(f"/proc/{pid}/comm").read_text().strip()
        said = _environment(pid)
    except OSError:
        return None
    if match := _NAME.fullmatch(name):
        return Place(int(match[1]), int(match[2]))
    attempt, rank = said.get("SEDD_ATTEMPT", ""), said.get("RANK", "0")
    return Place(int(attempt), int(rank)) if attempt.isdecimal() and rank.isdecimal() else None


def is_of_same_attempt(pid: int, environ: Mapping[str, str]) -> bool:
    """Whether another process works for the attempt that this environment is of: as another of its ranks, for example.

    False for a process that is gone, that belongs to another user and hides its environment, or that is left of an
    earlier attempt of the same job.
    """
    try:
        said = _environment(pid)
    except OSError:
        return False
    own, attempt, place = environ.get("SEDD_JOB_ID"), environ.get("SEDD_ATTEMPT"), find_place(pid)
    return (
        own is not None
        and said.get("SEDD_JOB_ID") == own
        and said.get("SEDD_HOST") == environ.get("SEDD_HOST")
        and place is not None
        and str(place.attempt) == attempt
    )


def _environment(pid: int) -> dict[str, str]:
    """What a process was started with. Raises: OSError."""
    pairs = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace").split("\0")
    return dict(pair.split("=", 1) for pair in pairs if "=" in pair)
