"""`python -m sedd.launch.submit_local RUN…`: hand runs to submitit's local executor, away from any terminal.

submitit starts a job's controller as a child in the caller's session: Ctrl-C or a closed terminal would end the job.
`sedd submit` therefore starts this program in a session of its own, with the frozen code on its path.
"""

import contextlib
import datetime as dt
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from sedd.cluster.inherited import Reader, environment_for
from sedd.cluster.local import find_local
from sedd.cuda_order import cuda_order, query_cards
from sedd.errors import RunError
from sedd.launch.freeze import slots_folder
from sedd.launch.pickled_job import job_of
from sedd.launch.protocol import names_of
from sedd.launch.resources import local_parameters, named_cards
from sedd.rundir.atomic import write_text
from sedd.rundir.events import append_event, read_events
from sedd.rundir.layout import RunDir
from sedd.spec.load import load_resolved

_LOCAL_TIMEOUT_S = 120
_ROOM_BYTES = 1 << 16
"""What submitit's files and the first events of a job take."""


def submit_local(runs: Sequence[RunDir], *, keeps_open: Sequence[int] = ()) -> None:
    """Start the runs on this machine, in a session of their own; each gets its `submitted` event.

    The program that starts them holds the descriptors `keeps_open`, a lock's, should this process be killed.

    Raises:
        RunError: a run could not be started; the message has the reason.
    """
    _require_room(runs[0].submitit)
    log = runs[0].submitit / "submit.log"
    command = [sys.executable, "-m", names_of(runs[0]).submit_local, *(str(run.path) for run in runs)]
    with log.open("ab") as output:
        try:
            done = subprocess.run(
                command,
                cwd=runs[0].path,
                env=local_environment(runs[0].code),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                pass_fds=keeps_open,
                timeout=_LOCAL_TIMEOUT_S + 5 * len(runs),
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as e:
            raise RunError(f"cannot start {runs[0].path.name} on this machine: {e}") from e
    if done.returncode != 0:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        reason = lines[-1] if lines else f"exit code {done.returncode}"
        raise RunError(f"cannot start {runs[0].path.name} on this machine: {reason}")


def _require_room(folder: Path) -> None:
    """Refuse to start what could not even say why it ended. Raises: RunError for a full disk."""
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(_ROOM_BYTES))
    except OSError as e:
        raise RunError(f"cannot write into {folder}: {e.strerror}") from e


def local_environment(code: Path) -> dict[str, str]:
    """Our environment with the run's own code in front, and nothing of the working folder."""
    path = os.pathsep.join(filter(None, [str(code), os.environ.get("PYTHONPATH")]))
    return environment_for(Reader.LOCAL_JOB, os.environ) | {"PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def submit_here(run: RunDir) -> None:
    """Start the run's controller and say so. Raises: SpecError, RunError; ValueError of submitit."""
    import submitit

    executor = submitit.LocalExecutor(folder=run.submitit)
    experiment = load_resolved(run.spec)
    # The slot that a point of a sweep takes decides which of its sweep's cards it has.
    of_sweep = (cards_of_sweep(run) or _record_cards(run)) if experiment.resources.gpus_per_node else ()
    parameters = local_parameters(experiment, with_cards(os.environ, of_sweep))
    named = parameters.pop("visible_gpus", None)
    cards = of_sweep or named
    executor.update_parameters(**parameters)
    if cards is not None:  # afterwards: submitit refuses to take a card's name (UUID, MIG) for one
        executor.parameters |= {"visible_gpus": cards, "gpus_per_node": len(cards)}
    pid = int(executor.submit(job_of(run)).job_id)
    controller = find_local(pid)
    host = socket.gethostname()
    append_event(
        run.events,
        "submitted",
        attempt=max((event.attempt for event in read_events(run.events)), default=0),
        now=dt.datetime.now(dt.UTC),
        job_id=controller.job_id if controller else f"{host}:{pid}:0",
        executor="local",
        host=host,
    )


def cards_of_sweep(run: RunDir) -> tuple[str, ...]:
    """The cards that the points of a local sweep share: those that its first one saw; none as long as it has none.

    A slot is a place among them. Points that are started again from a shell that sees others would take each other's.
    """
    with contextlib.suppress(FileNotFoundError):
        return named_cards(_cards_file(run).read_text(encoding="utf-8"))
    return ()


def _record_cards(run: RunDir) -> tuple[str, ...]:
    """What this process sees, for the sweep's other points; none outside a sweep."""
    cards = all_cards(os.environ) if _slots_of(run) else ()
    if cards:
        with contextlib.suppress(OSError):  # a full disk, which the job itself will tell
            write_text(_cards_file(run), ",".join(cards))
    return cards


def _cards_file(run: RunDir) -> Path:
    return slots_folder(run.code) / "cards"


def with_cards(environ: Mapping[str, str], cards: Sequence[str]) -> dict[str, str]:
    """The environment in which these cards are visible; unchanged where there are none."""
    return {**environ, **({"CUDA_VISIBLE_DEVICES": ",".join(cards)} if cards else {})}


def all_cards(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The names of all cards that CUDA_VISIBLE_DEVICES leaves, else CUDA's numbers; none where no driver answers."""
    visible = environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return named_cards(visible)
    try:
        import pynvml

        pynvml.nvmlInit()
        return tuple(map(str, range(len(cuda_order(query_cards(pynvml), environ)))))
    except Exception:  # no driver, no library: the preflight has the word on that
        return ()


def cards_of_slots(run: RunDir, visible: str, *, count: int) -> dict[tuple[Path, ...], str]:
    """The slots that a point of a local sweep may take, and the `count` cards that they mean; none outside a sweep.

    `visible` are the cards of the whole sweep. A point takes all slots that begin at one of its cards: one, or, where
    it has more cards than the sweep was made for (`sedd requeue --gpus`), its neighbours', too. So no two points share
    a card. Slots with too few cards behind them are left out; where even the first has too few, it has what there is.
    """
    firsts = {slot: int(slot.read_text() or 0) for slot in _slots_of(run)}
    if not count:
        return {(slot,): visible for slot in firsts}
    cards = named_cards(visible)
    last = max(0, len(cards) - count)
    return {
        tuple(slot for slot, at in firsts.items() if first <= at < first + count): ",".join(
            cards[first : first + count]
        )
        for first in sorted({at for at in firsts.values() if at <= last})
    }


def _slots_of(run: RunDir) -> list[Path]:
    return sorted(slots_folder(run.code).glob("slot-*"))


if __name__ == "__main__":
    for path in sys.argv[1:]:
        submit_here(RunDir(Path(path)))
