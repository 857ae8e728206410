"""Which job, which task, which node: read off SLURM's and submitit's variables."""

import os
import socket

from sedd.cluster.local import find_local
from sedd.job.environment import read_task_environment, slurm_job_id

ARRAY_TASK = {
    "SUBMITIT_EXECUTOR": "slurm",
    "SLURM_JOB_ID": "120",
    "SLURM_ARRAY_JOB_ID": "120",
    "SLURM_ARRAY_TASK_ID": "3",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_RESTART_COUNT": "2",
    "SLURMD_NODENAME": "v100-2",
    "SLURM_CPUS_PER_TASK": "8",
}


def test_an_array_task_is_never_called_by_its_job_number() -> None:
    assert slurm_job_id(ARRAY_TASK) == "120_3"
    assert slurm_job_id({"SLURM_JOB_ID": "77"}) == "77"


def test_slurms_variables_give_rank_node_and_restarts() -> None:
    environment = read_task_environment(ARRAY_TASK)
    assert (environment.executor, environment.job_id, environment.log_name) == ("slurm", "120_3", "120_3")
    assert (environment.rank, environment.local_rank, environment.restarts, environment.cpus) == (5, 1, 2, 8)
    assert environment.host == "v100-2"
    assert not environment.is_first


def test_a_local_job_is_named_by_the_life_of_its_controller() -> None:
    environment = read_task_environment(
        {"SUBMITIT_EXECUTOR": "local", "SUBMITIT_LOCAL_JOB_ID": str(os.getpid())}
    )
    me = find_local(os.getpid())
    assert me is not None
    assert environment.job_id == me.job_id
    assert environment.log_name == str(os.getpid())
    assert environment.host == socket.gethostname()
    assert environment.is_first
