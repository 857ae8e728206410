"""Whether runs in a folder of runs are watched for this user, and since when they were not looked at."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sedd.config.user_config import read_user_config

if TYPE_CHECKING:
    from sedd.config.settings import NotifySettings


def marker(root: Path) -> Path:
    """This user's marker file in a folder of runs; it exists once somebody wants to be told how runs there end.

    When it was last touched is when runs were last looked at.
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
    if not marker(root).exists():
        root.mkdir(parents=True, exist_ok=True)
        marker(root).touch()
