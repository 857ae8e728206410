"""A run with a range of GPUs has the ranks of the job that it finds itself in; others keep their spec."""

from typing import Any

import pytest

from sedd.errors import SpecError
from sedd.job.environment import TaskEnvironment, read_slurm_environment
from sedd.job.picked_shape import in_shape_of_job
from tests.launch.conftest import small_experiment

STEP = {"SLURM_JOB_ID": "7", "SLURM_JOB_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "2"}
RANGE: dict[str, Any] = {"gpus": "1-8", "gpus_per_node": 1, "walltime": "1h"}


def in_job(nodes: int, each: int) -> TaskEnvironment:
    variables = {"SLURM_JOB_NUM_NODES": str(nodes), "SLURM_NTASKS_PER_NODE": str(each)}
    return read_slurm_environment(STEP | variables)


def test_a_range_takes_the_shape_of_the_job() -> None:
    asked = small_experiment(resources=RANGE)
    found = in_shape_of_job(asked, in_job(2, 2))
    assert (found.resources.nodes, found.resources.gpus_per_node, found.resources.ranks) == (2, 2, 4)
    assert found.hash() == asked.hash()


def test_a_shape_that_is_given_stays_whatever_the_job_has() -> None:
    fixed = small_experiment(resources={"gpus_per_node": 1, "walltime": "1h"})
    assert in_shape_of_job(fixed, in_job(2, 2)) is fixed
    ranged = small_experiment(resources=RANGE)
    assert in_shape_of_job(ranged, in_job(1, 1)) is ranged
    assert in_shape_of_job(ranged, read_slurm_environment({"SLURM_JOB_ID": "7"})) is ranged


def test_a_job_that_the_training_cannot_have_is_refused_in_a_line() -> None:
    with pytest.raises(SpecError, match=r"1 x 3 GPUs: .*cannot be shared equally"):
        in_shape_of_job(small_experiment(resources=RANGE), in_job(1, 3))
