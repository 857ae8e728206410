"""The job entry's story: attempt after attempt, until the run is done, given up, or SLURM's to start again."""

import contextlib
import datetime as dt
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from sedd.launch import lock
from sedd.launch.attempt import Meeting, Task, find_meeting, run_attempt
from sedd.launch.causes import in_newest_attempt
from sedd.launch.processes import SignalBox, adopt_orphans, signals_held
from sedd.launch.settle import Settled, settle
from sedd.launch.warning import warned_in_time
from sedd.launch.words import LAST_WORDS, say
from sedd.rundir.attempts import is_cancelled
from sedd.rundir.events import Event, read_events
from sedd.rundir.exits import Exit
from sedd.rundir.layout import RunDir

LOCK_PATIENCE_S = 300.0
"""For an attempt whose entry was killed and whose training is still saving."""
MEETING_PATIENCE_S = 300.0
"""For rank 0's entry to start: nodes of one job come up minutes apart."""
VERDICT_PATIENCE_S = 10.0
"""For rank 0 to decide before this rank's bad exit makes srun kill it."""
POLL_S = 0.2


def supervise(task: Task, box: SignalBox) -> int:
    """Run the attempts of this job; returns the exit code of the job entry."""
    adopt_orphans()
    if is_over(read_events(task.run.events)):
        return 0
    if not task.place.is_first:
        return _follow(task, box)
    if task.place.executor == "slurm":
        return _lead_once(warned_in_time(task, now=dt.datetime.now(dt.UTC)), box, ()).exit_code
    with _turn(task) as has_turn:
        if not has_turn:
            return 0
        with lock.held(task.run.path, patience_s=LOCK_PATIENCE_S) as handle:
            return _lead_on(task, box, (handle,))


def is_over(said: Sequence[Event]) -> bool:
    """Whether nothing is left to do: completed, perhaps by another job of the run, or cancelled."""
    return is_cancelled(said) or any(event.event == "completed" for event in said)


def begin_attempt(task: Task) -> Meeting:
    """Count the attempt and say where its ranks meet."""
    said = read_events(task.run.events)
    meeting = find_meeting(attempt=1 + max((event.attempt for event in said), default=0))
    place, resources = task.place, task.experiment.resources
    say(
        task.run,
        "attempt_started",
        attempt=meeting.attempt,
        job_id=place.job_id,
        host=place.host,
        pid=os.getpid(),
        nodes=resources.nodes,
        ranks=resources.ranks,
        executor=place.executor,
        restarts=place.restarts,
        address=meeting.address,
        port=meeting.port,
    )
    return meeting


def _lead_on(task: Task, box: SignalBox, keep_open: Sequence[int]) -> int:
    """Without a queue the next attempt starts here, at once or after a pause."""
    while True:
        if is_over(read_events(task.run.events)):
            return 0
        settled = _lead_once(task, box, keep_open)
        if settled.next is None:
            return settled.exit_code
        box.received.clear()
        _wait(settled.next.delay_s, lambda: _is_cancelled(task.run))


def _lead_once(task: Task, box: SignalBox, keep_open: Sequence[int]) -> Settled:
    meeting = begin_attempt(task)
    ending = run_attempt(task, meeting, box, keep_open=keep_open)
    with signals_held():
        return settle(task, ending)


def _follow(task: Task, box: SignalBox) -> int:
    """Run one rank of a SLURM job whose rank 0 decides."""
    meeting = _await_meeting(task)
    if meeting is None:
        print(f"rank 0 did not start within {MEETING_PATIENCE_S:.0f} s", flush=True)
        return Exit.CRASHED
    ending = run_attempt(task, meeting, box)
    if ending.exit_code in (Exit.COMPLETED, Exit.STOPPED):
        return 0
    if ending.exit_code < 0:
        error = f"rank {ending.rank} on {task.place.host} was killed by signal {-ending.exit_code}"
        say(task.run, "failed", attempt=meeting.attempt, cause="killed", error=error, rank=ending.rank)
    _wait(VERDICT_PATIENCE_S, lambda: has_last_word(read_events(task.run.events)))
    return ending.exit_code if ending.exit_code > 0 else 128 - ending.exit_code


def has_last_word(said: Sequence[Event]) -> bool:
    """Whether the newest attempt's end has been decided."""
    return any(event.event in LAST_WORDS for event in in_newest_attempt(said))


def find_start(said: Sequence[Event], *, job_id: str, restarts: int) -> Event | None:
    """The start of the attempt that belongs to this very start of a SLURM job."""
    mine = (job_id, restarts)
    starts = [
        e for e in said if e.event == "attempt_started" and (e.get("job_id"), e.get("restarts")) == mine
    ]
    return starts[-1] if starts else None


def _await_meeting(task: Task) -> Meeting | None:
    deadline = time.monotonic() + MEETING_PATIENCE_S
    while time.monotonic() < deadline:
        said = read_events(task.run.events)
        if start := find_start(said, job_id=task.place.job_id, restarts=task.place.restarts):
            return Meeting(
                attempt=start.attempt, address=str(start.get("address")), port=int(start.get("port"))
            )
        time.sleep(POLL_S)
    return None


@contextlib.contextmanager
def _turn(task: Task) -> Iterator[bool]:
    """Wait for this run's turn in a local sweep; False when it was cancelled meanwhile."""
    slots = sorted(slots_folder(task.run.code).glob("slot-*"))
    if not slots:
        yield True
        return
    with lock.one_of(slots, is_unwanted=lambda: _is_cancelled(task.run)) as has_turn:
        yield has_turn


def slots_folder(code: Path) -> Path:
    """Where a local sweep keeps its places: beside the frozen code that its points share."""
    return code.resolve().parent / "slots"


def _is_cancelled(run: RunDir) -> bool:
    return is_cancelled(read_events(run.events))


def _wait(seconds: float, is_enough: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not is_enough():
        time.sleep(POLL_S)
