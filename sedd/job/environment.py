"""Where a job entry finds itself: which job, which of its tasks, on which node. Read off the environment, pure."""

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sedd.cluster.local import find_local


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskEnvironment:
    """One task process of a job.

    Under SLURM every rank has an entry of its own; the local executor's single entry starts all ranks.
    """

    executor: str
    """`slurm` or `local`."""
    job_id: str
    """`123`, or `120_3` for one task of an array; `host:pid:start` of submitit's controller for a local job."""
    log_name: str
    """The job in names of log files."""
    host: str
    rank: int = 0
    """SLURM's number of this task; with spare nodes the rank in an attempt may be another."""
    leader: int = 0
    """SLURM's number of the task that decides for the run: another than 0 once the first node has been left out."""
    local_rank: int = 0
    node: int = 0
    """SLURM's number of this node among those of the job."""
    restarts: int = 0
    """How often SLURM has requeued this job."""
    cpus: int | None = None
    """CPU cores of each process, where the scheduler gives a number."""
    nodes: int | None = None
    ranks_per_node: int | None = None
    """Of the job, where the scheduler gives numbers."""

    lead_s: float = 0.0
    """How long before the time limit SLURM warns the job."""
    step_exit: int | None = None
    """Exit code of srun, where the batch script has come to its end."""

    @property
    def is_first(self) -> bool:
        """Whether this entry decides for the run."""
        return self.rank == self.leader


def read_task_environment(environment: Mapping[str, str] = os.environ) -> TaskEnvironment:
    """The place of this process, started by submitit's SLURM or local executor."""
    if environment.get("SUBMITIT_EXECUTOR") == "slurm":
        return read_slurm_environment(environment)
    pid = int(environment["SUBMITIT_LOCAL_JOB_ID"])
    host = socket.gethostname()
    controller = find_local(pid)
    return TaskEnvironment(
        executor="local",
        job_id=controller.job_id if controller else f"{host}:{pid}:0",
        log_name=str(pid),
        host=host,
    )


def read_slurm_environment(environment: Mapping[str, str]) -> TaskEnvironment:
    """The place that SLURM's variables describe, in a task of a step or in the batch script itself."""
    job_id = slurm_job_id(environment)
    return TaskEnvironment(
        executor="slurm",
        job_id=job_id,
        log_name=job_id,
        host=environment.get("SLURMD_NODENAME") or socket.gethostname(),
        rank=int(environment.get("SLURM_PROCID", 0)),
        local_rank=int(environment.get("SLURM_LOCALID", 0)),
        node=int(environment.get("SLURM_NODEID", 0)),
        restarts=int(environment.get("SLURM_RESTART_COUNT", 0)),
        lead_s=float(environment.get("SEDD_LEAD_S", 0)),
        step_exit=int(environment["SEDD_STEP_EXIT"]) if environment.get("SEDD_STEP_EXIT") else None,
        cpus=_number(environment, "SLURM_CPUS_PER_TASK"),
        nodes=_number(environment, "SLURM_JOB_NUM_NODES"),
        ranks_per_node=_number(environment, "SLURM_NTASKS_PER_NODE"),
    )


def slurm_job_id(environment: Mapping[str, str]) -> str:
    """The name by which SLURM's commands take this job alone.

    Not `SLURM_JOB_ID` in an array: for one of its tasks that number means the whole array.
    """
    array = environment.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{environment['SLURM_ARRAY_TASK_ID']}" if array else environment["SLURM_JOB_ID"]


def done_file(folder: Path, environment: Mapping[str, str]) -> Path | None:
    """The file by which task 0's entry says that this start of the job leaves nothing to do; it holds the run's path.

    `folder` holds submitit's files. None where the batch script does not say when it began: an id alone may be that of
    an earlier job.
    """
    job_id, began = environment.get("SLURM_JOB_ID"), environment.get("SEDD_JOB_START")
    return folder / f"{job_id}-{began}.done" if job_id and began else None


def _number(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name, "")
    return int(text) if text.isdecimal() else None
