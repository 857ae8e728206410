"""After a command: tell what nobody has told yet of runs that ended, stalled or were lost."""

from pathlib import Path

from sedd.cli.console import err
from sedd.errors import SeddError
from sedd.monitor.decide.snapshot import RunView, Snapshot
from sedd.monitor.decide.state import State
from sedd.notify.marker import marker
from sedd.rundir.find import runs_root

COMMANDS = frozenset({"submit", "status", "logs", "report", "compare", "usage", "cancel", "requeue"})
"""After which it is looked: those of a login node."""


def tell_ends(called: str | None) -> None:
    """Of runs in $SEDD_RUNS, where somebody asked for it at all."""
    if called not in COMMANDS:
        return
    try:
        root = runs_root()
        if not _is_wanted(root):
            return
        from sedd.notify.pending import tell_pending

        problems = list(tell_pending(root))
    except SeddError as e:
        problems = [e.message]
    for problem in problems:
        err().print(f"notify: {problem}", style="yellow", markup=False, soft_wrap=True)


def tell_trouble(snapshot: Snapshot) -> None:
    """Of runs of this user that stand still, or whose job is gone without a last word."""
    troubled = [view for view in snapshot.runs if view.state in (State.STALLED, State.LOST)]
    if not troubled or not _is_wanted(runs_root()):
        return
    for view in troubled:
        try:
            _tell(view)
        except SeddError as e:
            err().print(f"notify: {e.message}", style="yellow", markup=False, soft_wrap=True)


def _tell(view: RunView) -> None:
    from sedd.notify.tell import tell_loss, tell_stall

    how = tell_stall if view.state is State.STALLED else tell_loss
    how(view.run, attempt=view.attempts, why=view.why, is_login=True)


def _is_wanted(root: Path) -> bool:
    """Whether runs of this user were submitted whose ends somebody wants to be told: one look at one file."""
    return marker(root).exists()
