"""One attempt's training processes: where their ranks meet, their environment, their logs, their start."""

import contextlib
import datetime as dt
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from sedd.cluster.inherited import Reader, environment_for
from sedd.cluster.users import user_name
from sedd.job.environment import TaskEnvironment
from sedd.job.processes import end_children, start
from sedd.rundir.layout import RunDir
from sedd.rundir.node_folder import ENTRY_VARIABLE, entry_name
from sedd.rundir.rank_progress import VARIABLE, open_progress
from sedd.spec.task import TaskSpec

Running = dict[int, "subprocess.Popen[bytes]"]
"""Training processes by rank."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trainings:
    """The training processes of one job entry."""

    processes: Running
    progress: Mapping[int, int]
    """Descriptor of each rank's progress (`sedd/rundir/rank_progress.py`)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a job entry works for, the same in every attempt."""

    run: RunDir
    experiment: TaskSpec
    environment: TaskEnvironment
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
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Nodes of the job on which this attempt does not train, for they were at fault: SLURM's number by name."""


def find_meeting(*, attempt: int, left_out: Mapping[str, int]) -> Meeting:
    """A port of this host that is free now."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        port = int(probe.getsockname()[1])
    return Meeting(attempt=attempt, address=socket.gethostname(), port=port, left_out=left_out)


@contextlib.contextmanager
def training_processes(task: Task, meeting: Meeting, *, keep_open: Sequence[int] = ()) -> Iterator[Trainings]:
    """This entry's training processes, by rank; what is left of them at the end is ended, children too."""
    with contextlib.ExitStack() as stack:
        ranks = own_ranks(task, meeting)
        progress = {rank: open_progress() for rank in ranks}
        for descriptor in progress.values():
            stack.callback(os.close, descriptor)
        processes = {
            rank: start(
                task.command,
                environment=rank_environment(os.environ, task, meeting, rank=rank, local_rank=local_rank)
                | {VARIABLE: str(progress[rank])},
                log=_open_log(stack, task, meeting, rank),
                keep_open=(*keep_open, progress[rank]),
            )
            for rank, local_rank in ranks.items()
        }
        try:
            yield Trainings(processes=processes, progress=progress)
        finally:
            end_children(grace_s=1.0)


def rank_environment(
    environment: Mapping[str, str], task: Task, meeting: Meeting, *, rank: int, local_rank: int
) -> dict[str, str]:
    """The environment of one training process: ours, its place among the ranks, its code."""
    node, resources = task.environment, task.experiment.resources
    cpus = node.cpus or min(resources.cpus_per_process, len(os.sched_getaffinity(0)))
    address = "127.0.0.1" if resources.nodes == 1 else meeting.address
    own = {
        "RANK": str(rank),
        "WORLD_SIZE": str(resources.ranks),
        "LOCAL_RANK": str(local_rank),
        "MASTER_ADDR": address,
        "MASTER_PORT": str(meeting.port),
        "SEDD_ATTEMPT": str(meeting.attempt),
        "SEDD_JOB_ID": node.job_id,
        "SEDD_HOST": node.host,
        ENTRY_VARIABLE: entry_name(os.getpid()),
        "PYTHONUNBUFFERED": "1",
    }
    if resources.gpus_per_node == 0:
        own["CUDA_VISIBLE_DEVICES"] = ""  # where nothing confines a job, it would see the cards of others
    # Programs that want a user's name fail where the uid has none, as in a container.
    named = {"USER": user_name(os.geteuid())}
    # Threads that wait by spinning make a step several times slower when anything else wants a core.
    threads = {"OMP_NUM_THREADS": str(cpus), "OMP_WAIT_POLICY": "PASSIVE"}
    return named | threads | environment_for(Reader.RANK, environment) | own


def own_ranks(task: Task, meeting: Meeting) -> dict[int, int]:
    """Rank to local rank of the processes that this entry starts in an attempt; none on a node that is spare in it."""
    here, wanted = task.environment, task.experiment.resources
    if here.executor != "slurm":
        return {rank: rank for rank in range(wanted.ranks)}
    if not wanted.spare_nodes:
        return {here.rank: here.local_rank}
    used = [n for n in range(wanted.all_nodes) if n not in meeting.left_out.values()][: wanted.nodes]
    if here.node not in used:
        return {}
    return {used.index(here.node) * wanted.ranks_per_node + here.local_rank: here.local_rank}


def log_of(task: Task, rank: int) -> Path:
    """Where a rank of this job writes what it prints."""
    return task.run.logs / f"{task.environment.log_name}_{rank}.out"


def _open_log(stack: contextlib.ExitStack, task: Task, meeting: Meeting, rank: int) -> IO[bytes] | None:
    """The rank's log, appended to; None (the entry's own output) where it cannot be opened."""
    path = log_of(task, rank)
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    header = f"=== attempt {meeting.attempt} · job {task.environment.job_id} · {task.environment.host} · {now} ===\n"
    try:
        with path.open("ab", buffering=0) as log:
            log.write(header.encode())
        return stack.enter_context(path.open("ab", buffering=0))
    except OSError as e:
        print(f"cannot write {path}: {e.strerror}", flush=True)
        return None
