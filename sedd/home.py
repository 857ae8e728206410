"""Home folders in paths as users write them: `~/runs`, `~ada/runs`."""

import os
from pathlib import Path

from sedd.errors import UsageError


def expand_home(path: str | Path) -> Path:
    """The path with `~` or `~ada` in front replaced by that home folder.

    Raises:
        UsageError: there is no such user; or, for `~`, neither $HOME nor an entry of this user, as in some containers.
    """
    expanded = os.path.expanduser(path)
    if expanded.startswith("~"):
        user = expanded[1:].partition("/")[0]
        if user:
            raise UsageError(f"{path}: there is no user '{user}'")
        raise UsageError(f"{path}: your home folder is not known", hint="set HOME")
    return Path(expanded)
