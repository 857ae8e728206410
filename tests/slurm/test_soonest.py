"""A real SLURM is asked for the shape in which a run ends first; it keeps no job of that."""

from pathlib import Path

import pytest

from sedd.cluster.command import run
from sedd.cluster.jobs import JobFact
from sedd.cluster.profile import SlurmProfile
from sedd.cluster.states import JobState
from sedd.soonest.choose import Choice, Wish, choose
from sedd.spec.experiment import Experiment
from tests.slurm.conftest import DevCluster
from tests.soonest.test_shapes import training

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

PROFILE = SlurmProfile.model_validate({"executor": "slurm", "partition": "requeue", "gpu": {"type": "v100"}})


def runs(job: JobFact) -> bool:
    return job.state is JobState.RUNNING


def picked(folder: Path, *, is_running: bool = False) -> Choice:
    """Of an hour on one card; its own shape is 2 nodes x 4."""
    small = {"memory": "1GiB", "cpus_per_process": 1, "gpus": "1-8", "nodes": 2, "walltime": "10m-24h"}
    batch = {"steps": 10_000, "residues_per_step": 131_072, "residues_per_gpu": 16_384}
    asked = training().model_dump(mode="json") | {"resources": small, "training": batch}
    experiment = Experiment.model_validate(asked)
    return choose(
        Wish(experiment=experiment, steps=experiment.steps, is_running=is_running), PROFILE, runs=folder
    )


def test_an_empty_cluster_takes_the_largest_shape_and_a_full_one_what_fits_into_its_gap(
    devcluster: DevCluster, tmp_path: Path
) -> None:
    at_once = picked(tmp_path)
    assert at_once.picked.shape.layout.gpus == 8
    assert at_once.picked.wait_s < 60
    held = [
        devcluster.submit(
            "sleep 600", "--time=600", "--mem=1000", f"--nodelist=v100-{n}", f"--gpus-per-node={g}"
        )
        for n, g in ((1, 4), (2, 4), (3, 4), (4, 2))
    ]
    for job in held:
        devcluster.wait(job, runs)
    waiting = devcluster.submit("true", "--nodes=4", "--gpus-per-node=4", "--time=600", "--mem=1000")
    devcluster.wait(waiting, lambda job: job.starts_at is not None, timeout_s=120)
    before = run(["squeue", "--noheader", "--format=%i"]).split()
    in_the_gap = picked(tmp_path)
    assert run(["squeue", "--noheader", "--format=%i"]).split() == before, "asked, and left nothing"
    shape = in_the_gap.picked.shape
    assert (shape.layout.nodes, shape.layout.gpus_per_node) == (1, 2)
    assert in_the_gap.picked.wait_s == 0
    assert shape.walltime_s < 600 * 60
    assert in_the_gap.fixed.wait_s > 600 * 60 - 100
    stays = picked(tmp_path, is_running=True)
    assert stays.picked is stays.fixed, "a run that has its nodes need not wait for them"


def test_a_job_that_can_never_start_keeps_nobody_from_free_cards(
    devcluster: DevCluster, tmp_path: Path
) -> None:
    failed = devcluster.submit("false", "--time=1", "--mem=1000")
    dead = devcluster.submit(
        "true", f"--dependency=afterok:{failed}", "--gpus-per-node=1", "--time=600", "--mem=1000"
    )
    devcluster.wait(dead, lambda job: job.reason == "DependencyNeverSatisfied")
    choice = picked(tmp_path)
    assert (choice.picked.wait_s, choice.fixed.wait_s) == (0, 0)
    assert choice.picked.shape.layout.gpus == 8
