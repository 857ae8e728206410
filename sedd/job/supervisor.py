"""The story of a job entry: attempt after attempt, led or followed, until the run is done, given up, or SLURM's."""

import contextlib
import datetime as dt
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from sedd.errors import DiskFullError, RunError
from sedd.job.attempt import Meeting, Task, training_processes
from sedd.job.begin_attempt import NONE_LEFT_OUT, begin_attempt, is_over, let_lost_attempt_end, wait_for
from sedd.job.causes import Ending, is_stop
from sedd.job.final_events import find_ready, read_with_retry
from sedd.job.finish_attempt import AttemptResult, finish_attempt, finish_unrecorded, leave_job
from sedd.job.other_ranks import Handover, follow, record_ready
from sedd.job.own_job import query_kill_wait_s
from sedd.job.processes import SignalBox, adopt_orphans, end_processes, signals_held
from sedd.job.standby import Standbys
from sedd.job.time_limit import with_time_limit
from sedd.job.watch import RunFolderGoneError, folder_was_away, watch
from sedd.launch.submit_local import cards_of_slots
from sedd.rundir import lock
from sedd.rundir.attempts import is_cancelled
from sedd.rundir.events import read_events
from sedd.rundir.fence import SupersededError, newest_attempt
from sedd.rundir.layout import RunDir
from sedd.rundir.presence import is_gone

LOCK_PATIENCE_S = 300.0
"""For an attempt whose entry was killed and whose training is still saving."""
READY_PATIENCE_S = 45.0
"""For the entries of the other ranks to end their training and be ready for the next attempt."""
FOLDER_PATIENCE_S = 20.0
"""For a run folder that has gone away to come back: another attempt then follows."""


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
    with contextlib.closing(Standbys()) as standbys:
        if task.environment.executor == "slurm":
            return _lead_or_follow(task, box, standbys)
        with _turn(task) as turn:
            if turn is None:
                return 0
            with lock.held(task.run.path, patience_s=LOCK_PATIENCE_S) as handle:
                mine = replace(task, cards=turn.cards)
                outcome = _lead(mine, box, standbys, (handle, *turn.slots))
                assert isinstance(outcome, int), "there is one entry"
                return outcome


def _lead_or_follow(task: Task, box: SignalBox, standbys: Standbys) -> int:
    """One entry of several: that of task 0 leads, until its node is left out and another one takes over."""
    before: Handover | None = None
    while True:
        leader = before.leader if before else 0
        mine = replace(task, environment=replace(task.environment, leader=leader))
        if mine.environment.is_first:
            outcome = _lead(mine, box, standbys, (), left_out=before.left_out if before else {})
        else:
            outcome = follow(mine, box, standbys, after=before.attempt if before else 0)
        if isinstance(outcome, int):
            return outcome
        before = outcome


def _lead(
    task: Task,
    box: SignalBox,
    standbys: Standbys,
    keep_open: Sequence[int],
    *,
    left_out: Mapping[str, int] = NONE_LEFT_OUT,
) -> int | Handover:
    """Attempt after attempt in this job, as long as each is followed by one here, and this entry's node takes part."""
    is_slurms = task.environment.executor == "slurm"
    while True:
        if is_over(read_events(task.run.events)):
            return 0
        timed = with_time_limit(task, now=dt.datetime.now(dt.UTC)) if is_slurms else task
        result = _lead_once(timed, box, standbys, keep_open, left_out)
        if result.next is None or not result.starts_in_job:
            return result.exit_code
        if not is_slurms:
            box.received.clear()
        wait_for(
            result.next.delay_s,
            lambda: _is_cancelled(task.run) or (is_slurms and _is_asked_to_leave(box)),
        )
        if is_slurms:
            if why := _why_not_here(task, box, attempt=result.attempt):
                with signals_held():
                    return leave_job(task, read_events(task.run.events), result, why=why).exit_code
            left_out = _nodes_of(task, result)
            if task.environment.node in left_out.values():
                if handover := _hand_over(task, result, left_out):
                    return handover
                with signals_held():
                    why = "the lead could not be handed over to another node"
                    return leave_job(task, read_events(task.run.events), result, why=why).exit_code


def _why_not_here(task: Task, box: SignalBox, *, attempt: int) -> str | None:
    """Wait until all entries are ready; why the next attempt does not start in this job after all; None: it does."""
    resources = task.experiment.resources
    others = {*range(resources.all_nodes * resources.ranks_per_node)} - {task.environment.rank}

    def missing() -> set[int]:
        return others - find_ready(read_events(task.run.events), attempt).keys()

    wait_for(READY_PATIENCE_S, lambda: not missing() or _is_asked_to_leave(box) or _is_cancelled(task.run))
    if _is_asked_to_leave(box):
        return "asked to leave between two attempts"
    if _is_cancelled(task.run) or not (absent := missing()):
        return None
    named = ", ".join(map(str, sorted(absent)))
    return f"after {READY_PATIENCE_S:.0f} s not ready for another attempt in this job: task {named}"


def _nodes_of(task: Task, result: AttemptResult) -> dict[str, int]:
    """SLURM's numbers of the nodes that the next attempt leaves out, as their entries have told them."""
    here = task.environment
    ready = find_ready(read_events(task.run.events), result.attempt).values()
    nodes = {e.get("host"): int(e.get("node")) for e in ready} | {here.host: here.node}
    return {host: node for host, node in nodes.items() if host in result.left_out}


def _hand_over(task: Task, result: AttemptResult, left_out: Mapping[str, int]) -> Handover | None:
    """Hand the lead to the entry of the next attempt's rank 0, as this node is left out; None if it is not recorded."""
    ready = find_ready(read_events(task.run.events), result.attempt)
    nodes = {number: int(e.get("node")) for number, e in ready.items()}
    # SLURM numbers the tasks node after node.
    leader = min(number for number, node in nodes.items() if node not in left_out.values())
    handover = Handover(attempt=result.attempt, leader=leader, left_out=left_out)
    return handover if record_ready(task, result.attempt, handover) else None


def _is_asked_to_leave(box: SignalBox) -> bool:
    return any(map(is_stop, box.received))


def _lead_once(
    task: Task, box: SignalBox, standbys: Standbys, keep_open: Sequence[int], left_out: Mapping[str, int]
) -> AttemptResult:
    try:
        meeting = begin_attempt(task, is_unwanted=lambda: bool(box.received), left_out=left_out)
    except DiskFullError as e:
        print(e.message, flush=True)
        with signals_held():
            return finish_unrecorded(task, read_events(task.run.events))
    let_lost_attempt_end(task, meeting, box)
    with training_processes(task, meeting, standbys, keep_open=keep_open) as trainings:
        try:
            ending = watch(task, meeting, trainings, box)
        except RunFolderGoneError as e:
            print(f"{e.message}; its last attempt was {meeting.attempt}", flush=True)
            ending = _await_folder(task, e)
        with signals_held():
            result = finish_attempt(task, ending, read_with_retry(task.run), attempt=meeting.attempt)
            if ending.exit_code is None:
                end_processes(
                    trainings.processes,
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
    wait_for(FOLDER_PATIENCE_S, lambda: not is_gone(task.run.manifest))
    if is_gone(task.run.manifest):
        raise error
    return folder_was_away()


class _Turn(NamedTuple):
    """A place on this machine, until the last process of the run is gone.

    That need not be this one, which may be killed while the training still saves on its cards.
    """

    slots: tuple[int, ...] = ()
    """Descriptors that the training keeps open."""
    cards: str | None = None
    """Those of the slots. The entry goes on seeing all: it may start other points of the sweep."""


@contextlib.contextmanager
def _turn(task: Task) -> Iterator[_Turn | None]:
    """Wait for this run's turn in a local sweep, which has cards of its own; None when cancelled meanwhile."""
    groups = cards_of_slots(
        task.run, os.environ.get("CUDA_VISIBLE_DEVICES", ""), count=task.experiment.resources.gpus_per_node
    )
    if not groups:
        yield _Turn()
        return
    with lock.one_of(groups, is_unwanted=lambda: _is_cancelled(task.run)) as taken:
        if taken is None:
            yield None
            return
        slots, handles = taken
        yield _Turn(handles, groups[slots])


def _is_cancelled(run: RunDir) -> bool:
    return is_cancelled(read_events(run.events))
