"""One attempt as its job entry sees it: start the training processes, pass signals on, wait for the end."""

import contextlib
import datetime as dt
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from sedd.cluster.inherited import Reader, environment_for
from sedd.job.causes import Ending, is_stop
from sedd.job.environment import TaskEnvironment
from sedd.job.final_events import is_decided
from sedd.job.processes import SignalBox, end_children, start
from sedd.rundir.attempts import is_cancelled
from sedd.rundir.events import read_events
from sedd.rundir.exits import Exit
from sedd.rundir.fence import newest_attempt
from sedd.rundir.layout import RunDir
from sedd.spec.task import TaskSpec

POLL_S = 0.1
LOOK_S = 2.0
"""Between two looks at events.jsonl: is the run cancelled, or another attempt's by now?"""
PEER_GRACE_S = 10.0
"""For the ranks that are left when one has failed: they hang in a collective and cannot save."""
STOP_GRACE_S = 900.0
"""For the ranks that are left when one has ended well: one of them may be writing a large checkpoint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a job entry works for, the same in every attempt."""

    run: RunDir
    experiment: TaskSpec
    place: TaskEnvironment
    command: tuple[str, ...]
    """Starts one training process."""
    limit_s: float | None = None
    """Seconds after which the entry itself asks the training to stop; None: the scheduler does, early enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """Where the ranks of one attempt meet; rank 0's entry writes it in the attempt's first event."""

    attempt: int
    address: str
    port: int


def find_meeting(*, attempt: int) -> Meeting:
    """A port of this host that is free now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = int(probe.getsockname()[1])
    return Meeting(attempt=attempt, address=socket.gethostname(), port=port)


def run_attempt(task: Task, meeting: Meeting, box: SignalBox, *, keep_open: Sequence[int] = ()) -> Ending:
    """Run this entry's training processes to their end."""
    ranks = _own_ranks(task)
    with contextlib.ExitStack() as stack:
        running = {
            rank: start(
                task.command,
                environment=rank_environment(os.environ, task, meeting, rank=rank, local_rank=local_rank),
                log=_open_log(stack, task, meeting, rank),
                keep_open=keep_open,
            )
            for rank, local_rank in ranks.items()
        }
        ending = _watch(task, meeting, running, box)
    end_children(grace_s=1.0)
    return ending


def rank_environment(
    environment: Mapping[str, str], task: Task, meeting: Meeting, *, rank: int, local_rank: int
) -> dict[str, str]:
    """The environment of one training process: ours, its place among the ranks, its code."""
    place, resources = task.place, task.experiment.resources
    cpus = place.cpus or min(resources.cpus_per_process, len(os.sched_getaffinity(0)))
    address = "127.0.0.1" if resources.nodes == 1 else meeting.address
    own = {
        "RANK": str(rank),
        "WORLD_SIZE": str(resources.ranks),
        "LOCAL_RANK": str(local_rank),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(meeting.port),
        "SEDD_ATTEMPT": str(meeting.attempt),
        "SEDD_JOB_ID": place.job_id,
        "SEDD_HOST": place.host,
        "PYTHONUNBUFFERED": "1",
    }
    # Threads that wait by spinning make a step several times slower when anything else wants a core.
    threads = {"OMP_NUM_THREADS": str(cpus), "OMP_WAIT_POLICY": "PASSIVE"}
    return threads | environment_for(Reader.RANK, environment) | own


def _own_ranks(task: Task) -> dict[int, int]:
    """Rank to local rank of the processes that this entry starts."""
    if task.place.executor == "slurm":
        return {task.place.rank: task.place.local_rank}
    return {rank: rank for rank in range(task.experiment.resources.ranks)}


def _open_log(stack: contextlib.ExitStack, task: Task, meeting: Meeting, rank: int) -> IO[bytes] | None:
    """The rank's log, appended to; None (the entry's own output) where it cannot be opened."""
    path = task.run.logs / f"{task.place.log_name}_{rank}.out"
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    header = f"=== attempt {meeting.attempt} · job {task.place.job_id} · {task.place.host} · {now} ===\n"
    try:
        with path.open("ab", buffering=0) as log:
            log.write(header.encode())
        return stack.enter_context(path.open("ab", buffering=0))
    except OSError as e:
        print(f"cannot write {path}: {e.strerror}", flush=True)
        return None


def _watch(
    task: Task, meeting: Meeting, running: Mapping[int, "subprocess.Popen[bytes]"], box: SignalBox
) -> Ending:
    """Wait for all processes; the first that ended says how the attempt ended."""
    began = time.monotonic()
    next_look = began + LOOK_S
    passed_on: set[int] = set()
    while all(process.poll() is None for process in running.values()):
        now = time.monotonic()
        if task.limit_s is not None and now - began > task.limit_s and not passed_on:
            passed_on.add(_tell(running, signal.SIGUSR2))
        for number in box.received - passed_on:
            passed_on.add(_tell(running, number))
        if now > next_look:
            next_look = now + LOOK_S
            said = read_events(task.run.events)
            if newest_attempt(said) > meeting.attempt:
                return _give_way(running)
            if not task.place.is_first and is_decided(said, meeting.attempt):
                break  # rank 0 has ended, and its entry has spoken: whoever still waits for it here waits in vain
            if signal.SIGTERM not in passed_on and is_cancelled(said):
                passed_on.add(_tell(running, signal.SIGTERM))
        time.sleep(POLL_S)
    ended = {rank: code for rank, process in running.items() if (code := process.poll()) is not None}
    rank, code = max(
        ended.items(), key=lambda item: _severity(item[1]), default=(task.place.rank, Exit.PEER_LOST)
    )
    _end_peers(running, grace_s=STOP_GRACE_S if code in (Exit.COMPLETED, Exit.STOPPED) else PEER_GRACE_S)
    for other, process in running.items():
        if code in (Exit.COMPLETED, Exit.STOPPED) and _severity(process.returncode) > _severity(code):
            rank, code = other, process.returncode
    left_s = None if task.limit_s is None else task.limit_s - (time.monotonic() - began)
    signals = frozenset(box.received | passed_on)
    return Ending(exit_code=code, signals=signals, time_left_s=left_s, rank=rank)


def _give_way(running: Mapping[int, "subprocess.Popen[bytes]"]) -> Ending:
    """End processes that are no longer the run's: at once, since they would save if they were asked."""
    for process in running.values():
        process.kill()
    return Ending(exit_code=Exit.SUPERSEDED, signals=frozenset(), time_left_s=None, rank=0)


def _tell(running: Mapping[int, "subprocess.Popen[bytes]"], number: int) -> int:
    for process in running.values():
        process.send_signal(number)
    return number


def _end_peers(running: Mapping[int, "subprocess.Popen[bytes]"], *, grace_s: float) -> None:
    """Wait for the processes that are left; after half the grace ask them to stop, at its end kill them."""
    ends = time.monotonic() + grace_s
    told = False
    while left := [process for process in running.values() if process.poll() is None]:
        now = time.monotonic()
        if now > ends:
            for process in left:
                process.kill()
                process.wait()
        elif not told and now > ends - grace_s / 2:
            told = True
            for process in left:
                process.terminate()
        time.sleep(POLL_S)


def _severity(code: int) -> int:
    """Orders exits: the one that explains the others is the largest."""
    if code in (Exit.COMPLETED, Exit.STOPPED):
        return 0 if code == Exit.COMPLETED else 1
    if is_stop(-code) or code == Exit.PEER_LOST:
        return 2
    return 4 if code == Exit.NODE_FAULT or code < 0 else 3
