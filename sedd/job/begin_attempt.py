"""The start of an attempt: it is counted, its ranks learn where they meet, and the one before it has ended."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sedd.errors import DiskFullError
from sedd.job.attempt import Meeting, Task, find_meeting
from sedd.job.causes import is_stop
from sedd.job.environment import TaskEnvironment
from sedd.job.final_events import has_ended, record_event_with_retry
from sedd.job.processes import SignalBox
from sedd.job.watch import LOOK_S
from sedd.rundir.attempts import is_cancelled, is_completed, is_paused, is_stopped
from sedd.rundir.events import Event, read_events, refusal
from sedd.rundir.fence import SupersededError, newest_attempt
from sedd.rundir.read_usage import signs_of_use

LOST_PATIENCE_S = 5 * LOOK_S
"""For an attempt on a node that SLURM had lost, and that is back, to see that it has been replaced."""
POLL_S = 0.2
NONE_LEFT_OUT: Mapping[str, int] = {}


def is_over(events: Sequence[Event]) -> bool:
    """Whether nothing is left to do here: completed, perhaps by another job, cancelled, stopped, or at a rung."""
    return is_cancelled(events) or is_completed(events) or is_stopped(events) or is_paused(events)


def begin_attempt(
    task: Task,
    *,
    is_unwanted: Callable[[], bool] = lambda: False,
    left_out: Mapping[str, int] = NONE_LEFT_OUT,
) -> Meeting:
    """Count the attempt and say where its ranks meet, and on which nodes of the job it does not train.

    Raises:
        SupersededError: the job has been started anew while this start of it was delayed.
        DiskFullError: the attempt could not be recorded, though we waited; it must not train.
    """
    events = read_events(task.run.events)
    require_newest_start(events, task.environment)
    meeting = find_meeting(attempt=1 + max((event.attempt for event in events), default=0), left_out=left_out)
    environment, resources = task.environment, task.experiment.resources
    signs = signs_of_use(task.run, os.environ, executor=environment.executor)
    if find_start(events, job_id=environment.job_id, restarts=environment.restarts):
        signs.pop("job_started", None)  # the time until now was another attempt's
    more: dict[str, Any] = {**({"left_out": dict(left_out)} if left_out else {}), **signs}
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
        gpus=resources.all_nodes * resources.gpus_per_node,
        executor=environment.executor,
        restarts=environment.restarts,
        address=meeting.address,
        port=meeting.port,
        **more,
    )
    if not is_said:
        why = refusal(task.run.events) or "the disk or the quota is full"
        raise DiskFullError(f"no attempt can begin: cannot write {task.run.events}: {why}")
    return meeting


def require_newest_start(events: Sequence[Event], environment: TaskEnvironment) -> None:
    """Raises: SupersededError if SLURM has started this job again since, or the job that continues it."""
    continued = {
        e.get("job_id") for e in events if e.event == "submitted" and e.get("continues") == environment.job_id
    }
    if any(e.event == "paused" and e.get("job_id") == environment.job_id for e in events):
        raise SupersededError(f"job {environment.job_id} has brought the run to a rung: another continues it")
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


def find_start(events: Sequence[Event], *, job_id: str, restarts: int) -> Event | None:
    """The start of the attempt that belongs to this very start of a SLURM job."""
    mine = (job_id, restarts)
    starts = [
        e for e in events if e.event == "attempt_started" and (e.get("job_id"), e.get("restarts")) == mine
    ]
    return starts[-1] if starts else None


def let_lost_attempt_end(task: Task, meeting: Meeting, box: SignalBox) -> None:
    """Processes of the attempt before may be alive, on a node that SLURM had lost: give its entry time to notice us."""
    if task.environment.executor != "slurm":
        return  # there a lock does it
    events = read_events(task.run.events)
    before = newest_attempt([e for e in events if e.attempt < meeting.attempt])
    if before and not has_ended(events, before):
        print(f"attempt {before} is not known to have ended: giving its processes time to end", flush=True)
        wait_for(LOST_PATIENCE_S, lambda: any(map(is_stop, box.received)))


def wait_for(seconds: float, is_enough: Callable[[], bool]) -> None:
    """Wait so long, or until it `is_enough`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and not is_enough():
        time.sleep(POLL_S)
