"""After a command: tell what nobody has told yet of runs that ended, stalled or were lost."""

import os
from typing import TYPE_CHECKING

from sedd.cli.console import tell
from sedd.errors import SeddError
from sedd.notify.marker import marker
from sedd.rundir.find import runs_root

if TYPE_CHECKING:
    from sedd.monitor.read.facts import Facts

COMMANDS = frozenset({"submit", "status", "logs", "report", "compare", "usage", "cancel", "requeue"})
"""After which it is looked: those of a login node."""


def tell_ends(called: str | None, *, said: str = "") -> None:
    """Of runs in $SEDD_RUNS, where somebody asked for it at all. Never raises: the command has had its result.

    `said` is the error message with which the command ended: the same configuration error is not printed twice.
    """
    if called not in COMMANDS:
        return
    try:
        root = runs_root()
        if not marker(root).exists():
            return
        from sedd.notify.pending import tell_pending

        problems = list(tell_pending(root))
    except SeddError as e:
        problems = [e.message]
    except Exception as e:  # also a bug of ours must not change the command's exit code
        problems = [f"{type(e).__name__}: {e}"]
    for problem in dict.fromkeys(problems):
        if problem != said:
            tell(f"notify: {problem}", style="yellow")


def tell_trouble(facts: "Facts") -> None:
    """Of runs of this user that stand still, or whose job is gone without a last word."""
    if not marker(runs_root()).exists():
        return
    from sedd.monitor.decide.snapshot import take_snapshot
    from sedd.monitor.decide.state import State
    from sedd.notify.tell import tell_loss, tell_stall

    words = {State.STALLED: tell_stall, State.LOST: tell_loss}
    for view in take_snapshot(facts).runs:
        try:
            if view.state in words and os.stat(view.run.path).st_uid == os.geteuid():
                words[view.state](view.run, attempt=view.attempts, why=view.why, is_login=True)
        except OSError:
            continue  # its folder has vanished
        except SeddError as e:
            tell(f"notify: {e.message}", style="yellow")
