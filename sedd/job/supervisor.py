"""The job entry's story: attempt after attempt, until the run is done, given up, or SLURM's to start again."""

import contextlib
import datetime as dt
import os
import time
from collections.abc import Callable, Iterator, Sequence

from sedd.errors import DiskFullError, RunError
from sedd.job.attempt import Meeting, Task, find_meeting, training_processes
from sedd.job.causes import Ending, is_stop
from sedd.job.environment import TaskEnvironment
from sedd.job.final_events import has_ended, is_decided, record_event, record_event_with_retry
from sedd.job.finish_attempt import AttemptResult, finish_attempt, finish_unrecorded
from sedd.job.processes import SignalBox, adopt_orphans, end_processes, signals_held
from sedd.job.time_limit import with_time_limit
from sedd.job.watch import LOOK_S, RunFolderGoneError, folder_was_away, query_kill_wait_s, watch
from sedd.launch import lock
from sedd.launch.freeze import slots_folder
from sedd.rundir.attempts import is_cancelled, is_completed
from sedd.rundir.events import Event, read_events
from sedd.rundir.exits import Exit
from sedd.rundir.fence import SupersededError, newest_attempt
from sedd.rundir.layout import RunDir
from sedd.rundir.presence import is_gone
from sedd.rundir.read_usage import signs_of_use

LOCK_PATIENCE_S = 300.0
"""For an attempt whose entry was killed and whose training is still saving."""
MEETING_PATIENCE_S = 300.0
"""For rank 0's entry to start: nodes of one job come up minutes apart."""
DECISION_PATIENCE_S = 10.0
"""For rank 0 to decide before this rank's bad exit makes srun kill it."""
LOST_PATIENCE_S = 5 * LOOK_S
"""For an attempt on a node that SLURM had lost, and that is back, to see that it has been replaced."""
FOLDER_PATIENCE_S = 20.0
"""For a run folder that has gone away to come back: another attempt then follows."""
POLL_S = 0.2


def supervise(task: Task, box: SignalBox) -> int:
    """Run the attempts of this job; returns the exit code of the job entry."""
    adopt_orphans()
    if is_over(read_events(task.run.events)):
        return 0
    try:
        return _supervise(task, box)
    except SupersededError as e:
        print(e.message, flush=True)
        return 0
    except RunFolderGoneError:
        return 1


def _supervise(task: Task, box: SignalBox) -> int:
    if not task.environment.is_first:
        return _follow(task, box)
    if task.environment.executor == "slurm":
        return _lead_once(with_time_limit(task, now=dt.datetime.now(dt.UTC)), box, ()).exit_code
    with _turn(task) as has_turn:
        if not has_turn:
            return 0
        with lock.held(task.run.path, patience_s=LOCK_PATIENCE_S) as handle:
            return _lead_on(task, box, (handle,))


def is_over(events: Sequence[Event]) -> bool:
    """Whether nothing is left to do: completed, perhaps by another job of the run, or cancelled."""
    return is_cancelled(events) or is_completed(events)


def begin_attempt(task: Task, *, is_unwanted: Callable[[], bool] = lambda: False) -> Meeting:
    """Count the attempt and say where its ranks meet.

    Raises:
        SupersededError: the job has been started anew while this start of it was delayed.
        DiskFullError: the attempt could not be recorded, though we waited; it must not train.
    """
    events = read_events(task.run.events)
    _require_newest_start(events, task.environment)
    meeting = find_meeting(attempt=1 + max((event.attempt for event in events), default=0))
    environment, resources = task.environment, task.experiment.resources
    is_said = record_event_with_retry(
        task.run,
        "attempt_started",
        attempt=meeting.attempt,
        is_unwanted=is_unwanted,
        job_id=environment.job_id,
        host=environment.host,
        pid=os.getpid(),
        nodes=resources.nodes,
        ranks=resources.ranks,
        gpus=resources.nodes * resources.gpus_per_node,
        executor=environment.executor,
        restarts=environment.restarts,
        address=meeting.address,
        port=meeting.port,
        **signs_of_use(task.run, os.environ, executor=environment.executor),
    )
    if not is_said:
        raise DiskFullError(f"no attempt can begin: nothing can be written to {task.run.path}")
    return meeting


def _require_newest_start(events: Sequence[Event], environment: TaskEnvironment) -> None:
    """Raises: SupersededError if SLURM has started this job again since, or the job that continues it."""
    continued = {
        e.get("job_id") for e in events if e.event == "submitted" and e.get("continues") == environment.job_id
    }
    for event in events:
        if event.event != "attempt_started":
            continue
        is_later = (
            event.get("job_id") == environment.job_id and int(event.get("restarts", 0)) > environment.restarts
        )
        if is_later or event.get("job_id") in continued:
            raise SupersededError(
                f"this start of job {environment.job_id} is late: attempt {event.attempt} has begun"
            )


def _lead_on(task: Task, box: SignalBox, keep_open: Sequence[int]) -> int:
    """Without a queue the next attempt starts here, at once or after a pause."""
    while True:
        if is_over(read_events(task.run.events)):
            return 0
        result = _lead_once(task, box, keep_open)
        if result.next is None:
            return result.exit_code
        box.received.clear()
        _wait(result.next.delay_s, lambda: _is_cancelled(task.run))


def _lead_once(task: Task, box: SignalBox, keep_open: Sequence[int]) -> AttemptResult:
    try:
        meeting = begin_attempt(task, is_unwanted=lambda: bool(box.received))
    except DiskFullError as e:
        print(e.message, flush=True)
        with signals_held():
            return finish_unrecorded(task, read_events(task.run.events))
    _let_lost_attempt_end(task, meeting, box)
    with training_processes(task, meeting, keep_open=keep_open) as running:
        try:
            ending = watch(task, meeting, running, box)
        except RunFolderGoneError as e:
            print(f"{e.message}; its last attempt was {meeting.attempt}", flush=True)
            ending = _await_folder(task, e)
        with signals_held():
            result = finish_attempt(task, ending, read_events(task.run.events), attempt=meeting.attempt)
            if ending.exit_code is None:
                end_processes(
                    running,
                    grace_s=query_kill_wait_s(task),
                    is_unwanted=lambda: _is_replaced(task, meeting),
                )
    return result


def _is_replaced(task: Task, meeting: Meeting) -> bool:
    """Whether a newer attempt has begun: SLURM takes the processes of a node that it has lost for dead."""
    try:
        return newest_attempt(read_events(task.run.events)) > meeting.attempt
    except RunError:
        return False


def _await_folder(task: Task, error: RunFolderGoneError) -> Ending:
    """An ending that another attempt may follow, if the run folder is back soon. Raises: `error`, if it is not."""
    _wait(FOLDER_PATIENCE_S, lambda: not is_gone(task.run.manifest))
    if is_gone(task.run.manifest):
        raise error
    return folder_was_away()


def _let_lost_attempt_end(task: Task, meeting: Meeting, box: SignalBox) -> None:
    """Processes of the attempt before may be alive, on a node that SLURM had lost: give its entry time to notice us."""
    if task.environment.executor != "slurm":
        return  # there a lock does it
    events = read_events(task.run.events)
    before = newest_attempt([e for e in events if e.attempt < meeting.attempt])
    if before and not has_ended(events, before):
        print(f"attempt {before} is not known to have ended: giving its processes time to end", flush=True)
        _wait(LOST_PATIENCE_S, lambda: bool(box.received))


def _follow(task: Task, box: SignalBox) -> int:
    """Run one rank of a SLURM job whose rank 0 decides."""
    meeting = _await_meeting(task)
    if meeting is None:
        print(f"rank 0 did not start within {MEETING_PATIENCE_S:.0f} s", flush=True)
        return Exit.CRASHED
    if is_decided(read_events(task.run.events), meeting.attempt):
        return 0  # it ended before we were up
    _let_lost_attempt_end(task, meeting, box)
    with training_processes(task, meeting) as running:
        ending = watch(task, meeting, running, box)
    code = ending.exit_code if ending.exit_code is not None else Exit.PEER_LOST
    if code in (Exit.COMPLETED, Exit.STOPPED, Exit.SUPERSEDED):
        return 0
    if code < 0 and not is_stop(-code):
        error = f"rank {ending.rank} on {task.environment.host} was killed by signal {-code}"
        record_event(
            task.run, "failed", attempt=meeting.attempt, cause="killed", error=error, rank=ending.rank
        )
    _wait(DECISION_PATIENCE_S, lambda: is_decided(read_events(task.run.events), meeting.attempt))
    if is_decided(read_events(task.run.events), meeting.attempt):
        return 0  # a bad exit would make srun kill rank 0's entry, which may be asking SLURM for the next attempt
    return code if code > 0 else 128 - code


def find_start(events: Sequence[Event], *, job_id: str, restarts: int) -> Event | None:
    """The start of the attempt that belongs to this very start of a SLURM job."""
    mine = (job_id, restarts)
    starts = [
        e for e in events if e.event == "attempt_started" and (e.get("job_id"), e.get("restarts")) == mine
    ]
    return starts[-1] if starts else None


def _await_meeting(task: Task) -> Meeting | None:
    deadline = time.monotonic() + MEETING_PATIENCE_S
    while time.monotonic() < deadline:
        events = read_events(task.run.events)
        if start := find_start(events, job_id=task.environment.job_id, restarts=task.environment.restarts):
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


def _is_cancelled(run: RunDir) -> bool:
    return is_cancelled(read_events(run.events))


def _wait(seconds: float, is_enough: Callable[[], bool]) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not is_enough():
        time.sleep(POLL_S)
