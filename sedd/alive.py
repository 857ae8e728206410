"""Whether a process of this machine lives."""

import os


def is_alive(pid: int) -> bool:
    """Whether some process has this number, whoever it belongs to: the number may be another's by now."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True
