"""Users as SLURM names them: by the uid, whatever `$USER` says; in a container it may have no name."""

import functools
import pwd


@functools.cache
def user_name(uid: int) -> str:
    """A user's name, or the number of one that this machine does not know."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def may_be_same(ours: str | None, shown: str | None) -> bool:
    """Whether a user whom we noted may be the one that SLURM shows. None: not known.

    One without a name here was noted by number, and may well have a name where SLURM runs.
    """
    return not ours or not shown or ours.isdecimal() or shown.isdecimal() or ours == shown
