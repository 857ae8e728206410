"""The entry of another rank than 0 under SLURM: it joins the attempts that rank 0's entry begins and decides on."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sedd.errors import RunError
from sedd.job.attempt import Meeting, Task, own_ranks, training_processes
from sedd.job.begin_attempt import POLL_S, find_start, is_over, let_lost_attempt_end, wait_for
from sedd.job.causes import is_stop
from sedd.job.final_events import (
    find_ready,
    is_decided,
    record_event,
    record_event_with_retry,
    starts_in_job,
)
from sedd.job.processes import SignalBox
from sedd.job.standby import Standbys
from sedd.job.watch import LOOK_S, watch
from sedd.rundir.events import Event, read_events
from sedd.rundir.exits import ENDED_WELL, Exit
from sedd.rundir.fence import newest_attempt
from sedd.rundir.presence import Presence

MEETING_PATIENCE_S = 300.0
"""For rank 0's entry to start: nodes of one job come up minutes apart."""
DECISION_PATIENCE_S = 60.0
"""For rank 0 to decide before a bad exit of ours makes srun kill it: it waits for its own training, and asks SLURM."""
END_PATIENCE_S = 900.0
"""The same where this rank ended well, and rank 0 has still to save, or to say farewell to a tracker."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Handover:
    """The next attempt in this job is led by another entry than the one before."""

    attempt: int
    """The one before."""
    leader: int
    """SLURM's number of the task that leads from now on: that of the next attempt's rank 0."""
    left_out: Mapping[str, int]
    """Nodes that the next attempt leaves out, as in `Meeting`."""


def follow(task: Task, box: SignalBox, standbys: Standbys, *, after: int) -> int | Handover:
    """Run one rank of a SLURM job whose attempts after `after` another entry leads.

    Returns the exit code of the job entry; or, where another entry than until now leads the next attempt, which.
    """
    before = after
    while True:
        meeting = _await_meeting(task, box, after=before)
        if isinstance(meeting, Handover):
            return meeting
        if meeting is None:
            if before and (_is_asked_to_leave(box) or not _starts_in_job(task, before)):
                return 0
            print(f"rank 0 did not start within {MEETING_PATIENCE_S:.0f} s", flush=True)
            return Exit.CRASHED
        code = _follow_once(task, meeting, box, standbys)
        if code is not None:
            return code
        before = meeting.attempt
        record_ready(task, before)


def record_ready(task: Task, attempt: int, handover: Handover | None = None) -> bool:
    """Record that this entry waits for the next attempt, and who leads it where that changes; whether it went well."""
    here = task.environment
    more: dict[str, Any] = {}
    if handover is not None:
        more = {"leader": handover.leader, "left_out": dict(handover.left_out)}
    return record_event_with_retry(
        task.run, "ready", attempt=attempt, task=here.rank, node=here.node, host=here.host, **more
    )


def _follow_once(task: Task, meeting: Meeting, box: SignalBox, standbys: Standbys) -> int | None:
    """Train in one attempt; the entry's exit code, or None where the next attempt starts in this job."""
    if is_decided(read_events(task.run.events), meeting.attempt):  # it ended before we were up
        return None if _starts_in_job(task, meeting.attempt) else 0
    if not own_ranks(task, meeting):
        return _stand_by(task, meeting, box)
    let_lost_attempt_end(task, meeting, box)
    with training_processes(task, meeting, standbys) as trainings:
        ending = watch(task, meeting, trainings, box)
    is_gone = all(process.poll() is not None for process in trainings.processes.values())
    code = ending.exit_code if ending.exit_code is not None else Exit.PEER_LOST
    if code == Exit.SUPERSEDED:
        return 0
    if code < 0 and not is_stop(-code):
        error = f"rank {ending.rank} on {task.environment.host} was killed by signal {-code}"
        record_event(
            task.run, "failed", attempt=meeting.attempt, cause="killed", error=error, rank=ending.rank
        )
    is_well = code in ENDED_WELL
    patience_s = END_PATIENCE_S if is_well else DECISION_PATIENCE_S

    def is_enough() -> bool:
        return is_decided(_events(task) or (), meeting.attempt) or (is_well and _is_asked_to_leave(box))

    wait_for(patience_s, is_enough)
    if _starts_in_job(task, meeting.attempt):
        return None if is_gone else 0  # with a training that waits for a dead disk no other begins here
    if is_well or is_decided(read_events(task.run.events), meeting.attempt):
        return 0  # a bad exit would make srun kill rank 0's entry, which may be asking SLURM for the next attempt
    return code if code > 0 else 128 - code


def _stand_by(task: Task, meeting: Meeting, box: SignalBox) -> int | None:
    """Wait on a spare node until the attempt has ended; as `_follow_once`."""
    presence = Presence(task.run)
    while not _is_asked_to_leave(box) and not presence.is_gone(time.monotonic()):
        events = _events(task) or ()
        if newest_attempt(events) > meeting.attempt:
            return 0
        if is_decided(events, meeting.attempt):
            return None if starts_in_job(events, meeting.attempt) else 0
        time.sleep(LOOK_S)
    return 0


def _await_meeting(task: Task, box: SignalBox, *, after: int) -> Meeting | Handover | None:
    """Where the ranks of the next attempt in this job meet; None where there is none, or rank 0 is too late.

    A handover to another entry than the one that leads, as this one knows it, comes first.
    """
    deadline = time.monotonic() + MEETING_PATIENCE_S
    while time.monotonic() < deadline:
        if (events := _events(task)) is None:
            time.sleep(LOOK_S)
            continue
        handover = find_handover(events, after)
        if handover is not None and handover.leader != task.environment.leader:
            return handover
        start = find_start(events, job_id=task.environment.job_id, restarts=task.environment.restarts)
        if start and start.attempt > after:
            return Meeting(
                attempt=start.attempt,
                address=str(start.get("address")),
                port=int(start.get("port")),
                left_out=start.get("left_out") or {},
            )
        if after and (_is_asked_to_leave(box) or is_over(events) or not starts_in_job(events, after)):
            return None
        time.sleep(POLL_S)
    return None


def _events(task: Task) -> Sequence[Event] | None:
    """The run's; None where they cannot be read just now. To fail for that would make srun end the whole training."""
    try:
        return read_events(task.run.events)
    except RunError as e:
        print(e.message, flush=True)
        return None


def find_handover(events: Sequence[Event], attempt: int) -> Handover | None:
    """Who leads the attempt after this one, where the entry that led this one has said that another does."""
    for event in find_ready(events, attempt).values():
        if event.get("leader") is not None:
            left_out = event.get("left_out") or {}
            return Handover(attempt=attempt, leader=int(event.get("leader")), left_out=left_out)
    return None


def _starts_in_job(task: Task, attempt: int) -> bool:
    return starts_in_job(read_events(task.run.events), attempt)


def _is_asked_to_leave(box: SignalBox) -> bool:
    return any(map(is_stop, box.received))
