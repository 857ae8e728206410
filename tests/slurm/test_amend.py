"""More steps and other shapes on a real SLURM: the run keeps its folder, its dependents and one job at a time."""

import contextlib
import datetime as dt
from concurrent.futures import ThreadPoolExecutor

import pytest

from sedd.amend.extend import extend
from sedd.amend.reshape import Shape, reshape
from sedd.amend.spec_change import SpecChange
from sedd.cluster import command
from sedd.cluster.scontrol import query_job
from sedd.cluster.states import JobState
from sedd.errors import ClusterError, RunError, SeddError
from sedd.launch.requeue import Requeued
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir
from tests.amend.test_extend import constant, save
from tests.launch.conftest import small_experiment, story, wait_for_event, wait_for_steps
from tests.slurm.conftest import DevCluster
from tests.slurm.test_launch import (
    WHOLE_NODE,
    Start,
    assert_nothing_was_repeated,
    ended,
    is_,
    job_of,
    start,  # noqa: F401 # a fixture
    started,
    wait_for_word,
)

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

NOW = dt.datetime.now(dt.UTC)


def fine(change: SpecChange) -> None:
    """A preflight that finds nothing."""


def starts(run: RunDir) -> list[tuple[str, int, int]]:
    """Job, nodes and ranks of each attempt."""
    begun = [e for e in read_events(run.events) if e.event == "attempt_started"]
    return [(str(e.get("job_id")), int(e.get("nodes")), int(e.get("ranks"))) for e in begun]


def in_queue() -> list[str]:
    return command.run(["squeue", "--noheader", "--format=%i"]).split()


def test_a_running_run_saves_and_goes_on_with_eight_gpus_on_two_nodes(
    devcluster: DevCluster,
    start: Start,  # noqa: F811
) -> None:
    (run,) = start(plan="endless train")
    (later,) = start(after=[run])  # waits for the run, whatever job it is in
    wait_for_steps(run, 10)
    first = job_of(run)
    result = reshape(run, Shape(gpus=8, nodes=2), check=fine, now=NOW)
    assert result.changed
    assert "2 nodes x 4 GPUs, 2 processes" in result.detail
    second = job_of(run)
    wait_for_word(run, "completed")
    assert starts(run) == [(first, 1, 1), (second, 2, 2)]
    assert_nothing_was_repeated(run)
    devcluster.wait(first, is_(JobState.CANCELLED))
    wait_for_word(later, "completed")
    assert started(later) > ended(run)
    assert story(run).count("submitted") == 2
    assert story(run).count("reshaped") == 1


def test_a_waiting_run_gets_another_shape_once_however_often_it_is_asked_for(
    devcluster: DevCluster,
    start: Start,  # noqa: F811
) -> None:
    (before,) = start(plan="endless")
    (run,) = start(after=[before])
    wait_for_steps(before, 3)
    first = job_of(run)

    def one(nodes: int) -> Requeued | SeddError:
        try:
            return reshape(run, Shape(nodes=nodes, walltime="30m"), check=fine, now=NOW)
        except SeddError as e:
            return e

    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(one, [2, 2]))
    assert all(isinstance(result, Requeued) for result in results), results
    assert sorted(in_queue()) == sorted([job_of(before), job_of(run)]), "one job of each run"
    job = query_job(job_of(run))
    assert job is not None
    assert (job.reason, job.time_limit_s) == ("Dependency", 1800)
    assert job_of(run) != first
    assert "attempt_started" not in story(run)


def test_a_shape_that_slurm_refuses_leaves_the_run_in_its_old_one(
    devcluster: DevCluster,
    start: Start,  # noqa: F811
) -> None:
    (run,) = start(plan="endless train")
    wait_for_steps(run, 10)
    with pytest.raises(ClusterError, match="continues in its old shape") as refusal:
        reshape(run, Shape(partition="nowhere"), check=fine, now=NOW)
    assert "--partition nowhere" in refusal.value.message
    wait_for_word(run, "completed")
    assert [(nodes, ranks) for _, nodes, ranks in starts(run)] == [(1, 1), (1, 1)]
    assert_nothing_was_repeated(run)


def test_a_task_of_an_array_goes_on_by_itself_in_another_shape(
    devcluster: DevCluster,
    start: Start,  # noqa: F811
) -> None:
    points = [small_experiment(resources=WHOLE_NODE, seed=seed) for seed in (1, 2)]
    one, other = start(*points, plan="endless train")
    for run in (one, other):
        wait_for_steps(run, 5)
    array = job_of(other)
    reshape(one, Shape(nodes=2), check=fine, now=NOW)
    wait_for_word(one, "completed")
    assert starts(one)[-1][1:] == (2, 2)
    assert job_of(other) == array
    assert story(other) == ["submitted", "attempt_started"], "nobody has touched the other"


def test_an_extended_run_goes_on_in_a_new_job(devcluster: DevCluster, start: Start) -> None:  # noqa: F811
    steps = constant().training.model_dump(mode="json")
    (run,) = start(small_experiment(training=steps, resources=WHOLE_NODE))
    wait_for_word(run, "completed")
    devcluster.wait(job_of(run), is_(JobState.COMPLETED))
    save(run, 40)
    first = job_of(run)

    def one(_: int) -> bool | str:
        try:
            return extend(run, 90, rewarm=None, check=fine, now=NOW).changed
        except RunError as e:
            return e.message

    with ThreadPoolExecutor(2) as pool:
        assert sorted(map(str, pool.map(one, range(2))))[1] == "True"
    wait_for_event(run, "completed", count=2, timeout_s=180)
    with contextlib.suppress(AssertionError):
        devcluster.wait(job_of(run), is_(JobState.COMPLETED))
    assert [job for job, _, _ in starts(run)] == [first, job_of(run)]
    assert story(run).count("extended") == 1
    assert story(run).count("submitted") == 2
