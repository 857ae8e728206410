"""Whether runs in a folder of runs are watched for this user, and since when they were not looked at."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sedd.config.user_config import read_user_config

if TYPE_CHECKING:
    from sedd.config.settings import NotifySettings

_SLACK_S = 900.0
"""Clocks of nodes and file servers differ; a run that is looked at twice is told once all the same."""


def marker(root: Path) -> Path:
    """This user's marker file in a folder of runs; it exists once somebody wants to be told how runs there end.

    When it was last touched is when runs were last looked at; its text says when it was made.
    """
    return root / f".notify-{os.geteuid()}"


def watch_ends_if_asked(root: Path, own: "NotifySettings | None") -> None:
    """`watch_ends`, where a profile's `own` settings, or else the user's, have a means. Raises: SpecError, OSError."""
    config = read_user_config() if own is None else None
    settings = own or (config.notify if config else None)
    if settings is not None and (settings.command or settings.apprise):
        watch_ends(root)


def watch_ends(root: Path) -> None:
    """From now on the ends of runs in this folder are looked for."""
    mark = marker(root)
    if not mark.exists():
        root.mkdir(parents=True, exist_ok=True)
        mark.touch()
        # As the file server's clock has it, which also stamps the runs' events.
        mark.write_text(str(mark.stat().st_mtime))


def moved_since(mark: Path, now: float) -> float:
    """The time since which a run must have moved to be looked at; of none that ended before the marker was made.

    Raises: OSError without a marker.
    """
    touched = mark.stat().st_mtime
    try:
        made = float(mark.read_text())
    except ValueError:  # who made it died before it was written
        made = 0.0
    latest = now + _SLACK_S  # what is later was written while the clock was ahead
    if made > latest:
        made = 0.0
    if touched > latest:
        return made or now - _SLACK_S
    return max(made, touched - _SLACK_S)
