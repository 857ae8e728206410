"""Whose run it is: several people may share a folder of runs, and names repeat in it."""

import os
import pwd
from collections.abc import Iterable, Sequence
from pathlib import Path

from sedd.errors import RunError
from sedd.rundir.layout import RunDir


def newest_of(runs: Sequence[RunDir]) -> RunDir:
    """Of runs of one name, oldest first, the newest of this user; of those who have none, the newest of all."""
    return next((run for run in reversed(runs) if is_own(run.path)), runs[-1])


def own_runs(runs: Iterable[RunDir]) -> list[RunDir]:
    """Those that this user may change."""
    return [run for run in runs if other_owner(run) is None]


def is_own(folder: Path) -> bool:
    """Whether this user made the folder. An NFS server that does not know its users says no of all folders."""
    try:
        return os.stat(folder).st_uid == os.geteuid()
    except OSError:
        return False


def other_owner(run: RunDir) -> str | None:
    """Whose run it is, where it is another user's and this one may not record events in it; None where they may."""
    return other_owner_of(run.path, run.events)


def other_owner_of(folder: Path, file: Path) -> str | None:
    """Whose folder it is, where it is another user's and this one may not write the file that is kept in it."""
    try:
        uid = os.stat(folder).st_uid
    except OSError:
        return None
    written = file if os.path.exists(file) else folder
    as_now = os.access in os.supports_effective_ids
    if uid == os.geteuid() or os.access(written, os.W_OK, effective_ids=as_now):
        return None
    return user_of(uid)


def require_own(run: RunDir) -> RunDir:
    """The run. Raises: RunError: it is another user's, who alone may end it, continue it or change it."""
    if owner := other_owner(run):
        raise RunError(
            f"{run.name}/{run.id} belongs to {owner}, who alone may change it",
            hint="sedd status, logs, report and sample only read: those may be used",
        )
    return run


def user_of(uid: int) -> str:
    """A user's name; the number where there is none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
