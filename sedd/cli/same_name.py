"""Choose among several runs of one name, and mention the others that are alive."""

from collections.abc import Callable, Iterable, Sequence

from sedd.cli.console import note
from sedd.errors import SeddError
from sedd.launch.liveness import RunStatus, query_run_status
from sedd.launch.submitted import STOPPED, describe_progress
from sedd.rundir.attempts import is_completed, is_unsubmitted
from sedd.rundir.events import read_events
from sedd.rundir.find import is_name_of, list_runs_of_name
from sedd.rundir.layout import RunDir
from sedd.rundir.owner import own_runs
from sedd.units import counted


def choose_of_name(text: str, found: list[RunDir], *, is_over: Callable[[RunDir], bool]) -> list[RunDir]:
    """The runs that a text names; where the newest of a name is over and one older run is alive, that one instead.

    A note on stderr says so. Sweeps, and runs that are named by their id, stay as they are.
    """
    if len(found) != 1 or not is_name_of(text, found[0]):
        return found
    newest, alive = found[0], _others_alive(found[0], found)
    if len(alive) != 1 or not is_over(newest):  # SLURM is asked of the newest only where it matters
        return found
    note(
        f"the newest run of {newest.name}, {newest.id}, is over already; this is the older one, {alive[0].id}"
    )
    return alive


def tell_of_others(texts: Iterable[str], chosen: Sequence[RunDir]) -> None:
    """Note on stderr which other runs are alive that have the name of a chosen one; ids among `texts` draw no note."""
    named = {run.path.parent: run for run in chosen if any(is_name_of(text, run) for text in texts)}
    for run in named.values():
        if others := _others_alive(run, chosen):
            word = "goes" if len(others) == 1 else "go"
            ids = ", ".join(other.id for other in others)
            note(f"{counted(len(others), 'other run')} of the name {run.name} {word} on: {ids}")


def is_alive(run: RunDir) -> bool:
    """Whether a run trains or waits to; where SLURM or the other machine does not say, its events decide."""
    events = read_events(run.events)
    if is_completed(events) or describe_progress(events) in (None, STOPPED):
        return False
    try:
        return query_run_status(run).status in (RunStatus.RUNNING, RunStatus.WAITING, RunStatus.PAUSED)
    except SeddError:
        return True


def has_ended(run: RunDir) -> bool:
    """Whether nothing of a run is alive, and it is not one that still waits to be submitted."""
    return not is_alive(run) and not is_unsubmitted(read_events(run.events))


def _others_alive(run: RunDir, chosen: Iterable[RunDir]) -> list[RunDir]:
    """This user's runs of the name that are alive and not chosen, oldest first. SLURM is asked of no chosen one."""
    known = set(chosen)
    own = own_runs(list_runs_of_name(run.path.parent))
    return [each for each in own if each not in known and is_alive(each)]
