"""One attempt's training processes: where their ranks meet, their environment, their logs, their start."""

import contextlib
import datetime as dt
import os
import socket
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sedd.cluster.inherited import Reader, environment_for
from sedd.cluster.users import user_name
from sedd.cuda_order import slurm_order
from sedd.job.environment import TaskEnvironment
from sedd.job.processes import end_children, start
from sedd.job.standby import Standbys
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
    stand_by: Callable[[], None]
    """Let as many processes stand by for the next attempt in this job, if they do not yet."""


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
    cards: str | None = None
    """Those of the slot of a local sweep's point, as CUDA_VISIBLE_DEVICES names them; None: all that the entry sees."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meeting:
    """Where the ranks of one attempt meet; rank 0's entry writes it in the attempt's first event."""

    attempt: int
    address: str
    port: int
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Nodes of the job on which this attempt does not train, for they were at fault: SLURM's number by name."""
    keeper: socket.socket | None = field(default=None, compare=False, repr=False)
    """Keeps the port from other programs until rank 0 listens there: it imports torch before."""


def find_meeting(*, attempt: int, left_out: Mapping[str, int]) -> Meeting:
    """A port of this host that is free, and stays so for rank 0 as long as the meeting lives."""
    keeper = socket.socket()
    # Who sets this option, too, as torch's store does, may listen at a port where nobody listens yet.
    keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    keeper.bind(("", 0))
    port = int(keeper.getsockname()[1])
    return Meeting(attempt=attempt, address=socket.gethostname(), port=port, left_out=left_out, keeper=keeper)


@contextlib.contextmanager
def training_processes(
    task: Task, meeting: Meeting, standbys: Standbys, *, keep_open: Sequence[int] = ()
) -> Iterator[Trainings]:
    """This entry's training processes, by rank; what is left of them at the end is ended, children too.

    Processes that stand by (`standbys`) take the ranks first.
    """
    with contextlib.ExitStack() as stack:
        processes: Running = {}
        progress: dict[int, int] = {}
        environment: dict[str, str] = {}
        for rank, local_rank in own_ranks(task, meeting).items():
            environment = rank_environment(os.environ, task, meeting, rank=rank, local_rank=local_rank)
            log = _begin_log(task, meeting, rank)
            processes[rank], progress[rank] = _hand_over(standbys, environment, log) or _start(
                task, environment, log, keep_open
            )
            stack.callback(os.close, progress[rank])

        def stand_by() -> None:
            if processes and task.experiment.task == "train" and task.experiment.retry.standby:
                standbys.prepare(task.command, environment, count=len(processes), keep_open=keep_open)

        try:
            yield Trainings(processes=processes, progress=progress, stand_by=stand_by)
        finally:
            end_children(grace_s=1.0, but=standbys.pids())


def _hand_over(
    standbys: Standbys, environment: Mapping[str, str], log: Path | None
) -> tuple["subprocess.Popen[bytes]", int] | None:
    """A process that stood by and trains now, and the descriptor of its progress; None if none is left."""
    while standby := standbys.take():
        if standby.hand_over(environment, log):
            return standby.process, standby.progress
        os.close(standby.progress)
    return None


def _start(
    task: Task, environment: Mapping[str, str], log: Path | None, keep_open: Sequence[int]
) -> tuple["subprocess.Popen[bytes]", int]:
    """A new training process, and the descriptor of its progress."""
    progress = open_progress()
    with log.open("ab", buffering=0) if log else contextlib.nullcontext() as output:
        process = start(
            task.command,
            environment={**environment, VARIABLE: str(progress)},
            log=output,
            keep_open=(*keep_open, progress),
        )
    return process, progress


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
    if task.cards is not None:
        own["CUDA_VISIBLE_DEVICES"] = task.cards
    if resources.gpus_per_node == 0:
        own["CUDA_VISIBLE_DEVICES"] = ""  # where nothing confines a job, it would see the cards of others
    # Programs that want a user's name fail where the uid has none, as in a container.
    named = {"USER": user_name(os.geteuid())}
    # Threads that wait by spinning make a step several times slower when anything else wants a core.
    threads = {"OMP_NUM_THREADS": str(cpus), "OMP_WAIT_POLICY": "PASSIVE"}
    return named | threads | environment_for(Reader.RANK, environment) | slurm_order(environment) | own


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


def _begin_log(task: Task, meeting: Meeting, rank: int) -> Path | None:
    """The rank's log, with the attempt's headline; None (the entry's own output) where it cannot be written."""
    path = log_of(task, rank)
    now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
    header = f"=== attempt {meeting.attempt} · job {task.environment.job_id} · {task.environment.host} · {now} ===\n"
    try:
        with path.open("ab", buffering=0) as log:
            log.write(header.encode())
    except OSError as e:
        print(f"cannot write {path}: {e.strerror}", flush=True)
        return None
    return path
