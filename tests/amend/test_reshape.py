"""`requeue --gpus … --nodes …`: the next attempt has another shape; the run stays the same."""

import datetime as dt
import errno
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from sedd.amend.reshape import Shape, plan_shape, reshape
from sedd.amend.spec_change import SpecChange
from sedd.cluster.profile import SlurmProfile
from sedd.errors import RunError, SeddError, SpecError
from sedd.launch.cancel import cancel
from sedd.launch.liveness import RunSituation, RunStatus, query_run_status
from sedd.launch.local_processes import Member, Role, find_members, wait_until
from sedd.launch.make_runs import make_runs
from sedd.launch.requeue import requeue
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir, read_manifest
from sedd.spec.load import load_resolved
from sedd.spec.tasks import TASKS
from tests.launch.conftest import (
    LocalRuns,
    local,  # noqa: F401 # a fixture
    order_for,
    small_experiment,
    story,
    wait_for_end,
    wait_for_event,
    wait_for_steps,
)

NOW = dt.datetime.now(dt.UTC)
Plan = Callable[..., SpecChange]
OTHER_TASKS: dict[str, dict[str, object]] = {
    "data": {"build": {"inputs": ["/data/a.fasta"], "store": "/data/a.store"}},
    "evaluate": {"evaluate": {"network": "/runs/small", "fasta": ["/data/a.fasta"]}},
    "sample": {"sample": {"network": "/runs/small"}},
    "score": {"score": {"network": "/runs/small", "wild_types": ["/data/a.fasta"]}},
    "embed": {"embed": {"network": "/runs/small", "fasta": ["/data/a.fasta"]}},
    "command": {"command": {"run": ["fold", "{fasta}", "{out}"], "fasta": "/a.fasta", "column": "plddt"}},
}


def fine(change: SpecChange) -> None:
    """A preflight that finds nothing."""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """What a shape makes of a run of two nodes with four GPUs each, under SLURM."""
    spec = small_experiment(
        training={"steps": 40, "residues_per_step": 16384, "residues_per_gpu": 1024},
        resources={"nodes": 2, "gpus_per_node": 4, "cpus_per_process": 1, "walltime": "1h"},
    )
    profile = SlurmProfile.model_validate({"executor": "slurm", "partition": "a", "gpu": {"type": "v100"}})
    (run,) = make_runs(order_for(spec, runs=tmp_path, profile=profile), now=NOW, made=[]).runs
    situation = RunSituation(
        run=run, status=RunStatus.OVER, executor="slurm", job_id="1", attempt=1, cancelled=False, last=""
    )
    return lambda **shape: plan_shape(situation, Shape(**shape))


@pytest.mark.parametrize(
    ("shape", "nodes", "gpus_per_node", "ranks"),
    [
        ({"gpus": 8, "nodes": 2}, 2, 4, 8),
        ({"gpus": 16}, 2, 8, 16),
        ({"gpus": 1, "nodes": 1}, 1, 1, 1),
        ({"nodes": 1}, 1, 4, 4),
        ({"gpus": 4, "nodes": 4, "walltime": "2h"}, 4, 1, 4),
        ({"gpus": 0, "processes": 2}, 2, 0, 2),
    ],
)
def test_gpus_and_processes_are_counted_in_all(
    plan: Plan, shape: dict[str, object], nodes: int, gpus_per_node: int, ranks: int
) -> None:
    resources = plan(**shape).experiment.resources
    assert (resources.nodes, resources.gpus_per_node, resources.ranks) == (nodes, gpus_per_node, ranks)
    assert resources.walltime == (7200 if "walltime" in shape else 3600)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"gpus": 3}, "--gpus 3 cannot be shared equally by 2 nodes"),
        ({"gpus": 3, "nodes": 1}, "16 forward passes cannot be shared equally by 3 processes"),
        ({"gpus": 32}, "16 forward passes cannot be shared equally by 32 processes"),
        ({"walltime": "5"}, "is not a duration"),
    ],
)
def test_a_shape_that_does_not_divide_is_one_line(plan: Plan, shape: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message) as refusal:
        plan(**shape)
    assert len(refusal.value.message.splitlines()) == 1
    assert str(Shape(**shape)) in refusal.value.message  # type: ignore[arg-type]


@pytest.mark.parametrize("task", ["data", "evaluate", "sample", "score", "embed", "command"])
def test_any_task_takes_another_time_limit_and_partition(tmp_path: Path, task: str) -> None:
    """They mean the same for all: a job that ran into its limit had to be submitted anew."""
    spec = TASKS[task].model_validate(OTHER_TASKS[task] | {"name": "other", "task": task})
    profile = SlurmProfile.model_validate({"executor": "slurm", "partition": "a"})
    (run,) = make_runs(order_for(spec, runs=tmp_path, profile=profile), now=NOW, made=[]).runs
    situation = RunSituation(
        run=run, status=RunStatus.OVER, executor="slurm", job_id="1", attempt=1, cancelled=False, last=""
    )
    change = plan_shape(situation, Shape(walltime="48h", partition="long"))
    assert change.experiment == type(spec).model_validate(
        spec.model_dump() | {"resources": spec.resources.model_copy(update={"walltime": 48 * 3600})}
    )
    assert getattr(change.profile, "partition", None) == "long"


def test_a_running_task_of_another_kind_goes_on_with_another_time_limit(local: LocalRuns) -> None:  # noqa: F811
    spec = TASKS["data"].model_validate(OTHER_TASKS["data"] | {"name": "d", "task": "data"})
    (run,) = local.start(spec, plan="endless train")
    wait_for_steps(run, 5)
    result = reshape(run, Shape(walltime="2h"), check=fine, now=NOW)
    assert result.changed
    assert "2h; submitted, continues behind what it has kept" in result.detail
    assert load_resolved(run.spec).resources.walltime == 7200
    wait_for_event(run, "completed")
    wait_for_end(run)


def test_a_partition_is_the_profiles_and_the_rest_of_it_stays(plan: Plan) -> None:
    change = plan(partition="b")
    assert change.profile == change.earlier_profile.model_copy(update={"partition": "b"})
    assert change.experiment == change.earlier


def test_a_running_run_saves_and_goes_on_with_as_many_processes_as_asked_for(local: LocalRuns) -> None:  # noqa: F811
    run = local.start_one(plan="endless train")
    wait_for_steps(run, 5)
    hash_before = read_manifest(run)["spec_hash"]
    result = reshape(run, Shape(processes=2), check=fine, now=NOW)
    assert result.changed
    wait_for_event(run, "completed")
    assert story(run) == [
        *("submitted", "attempt_started", "cancelled", "stop_requested", "reshaped"),
        *("submitted", "attempt_started", "resumed", "completed"),
    ]
    starts = [e for e in read_events(run.events) if e.event == "attempt_started"]
    assert [e.get("ranks") for e in starts] == [1, 2]
    saved, resumed = (
        next(e for e in read_events(run.events) if e.event == kind) for kind in ("checkpoint", "resumed")
    )
    assert saved.get("step") == resumed.get("step")
    manifest = read_manifest(run)
    assert (manifest["ranks"], manifest["earlier_hashes"]) == (2, [hash_before])
    wait_for_end(run)


def test_a_run_that_gave_up_goes_on_in_another_shape(local: LocalRuns) -> None:  # noqa: F811
    run = local.start_one(plan="crash crash train")
    wait_for_end(run)
    reshape(run, Shape(processes=4), check=fine, now=NOW)
    wait_for_event(run, "completed")
    assert load_resolved(run.spec).resources.ranks == 4
    with pytest.raises(RunError, match="completed") as refusal:
        reshape(run, Shape(processes=1), check=fine, now=NOW)
    assert "sedd extend" in (refusal.value.hint or "")
    wait_for_end(run)


def test_what_this_machine_or_the_preflight_refuses_disturbs_nothing(local: LocalRuns) -> None:  # noqa: F811
    run = local.start_one(plan="endless train")
    wait_for_steps(run, 5)
    spec, events = run.spec.read_bytes(), run.events.read_bytes()

    def fails(change: SpecChange) -> None:
        raise RunError("gpu_memory: does not fit")

    with pytest.raises(SpecError, match=r"--nodes 2: run .* is a local one") as refusal:
        reshape(run, Shape(nodes=2), check=fine, now=NOW)
    assert refusal.value.hint is None, "no option that requeue does not have"
    for shape, check in ((Shape(nodes=2), fine), (Shape(partition="b"), fine), (Shape(processes=2), fails)):
        with pytest.raises(SeddError):
            reshape(run, shape, check=check, now=NOW)
    assert (run.spec.read_bytes(), run.events.read_bytes()) == (spec, events)
    assert query_run_status(run).status is RunStatus.RUNNING
    cancel([run], now=NOW)


def test_of_two_at_once_both_come_to_pass_one_after_the_other(local: LocalRuns) -> None:  # noqa: F811
    run = local.start_one(plan="endless")
    wait_for_steps(run, 5)

    def one(processes: int) -> bool:
        return reshape(run, Shape(processes=processes), check=fine, now=NOW).changed

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(one, [2, 4])) == [True, True]
    assert len([e for e in read_events(run.events) if e.event == "submitted"]) == 3
    ranks = read_manifest(run)["ranks"]
    assert wait_until(lambda: len(training(run)) == ranks, timeout_s=120), (
        "no process of another shape is left"
    )
    cancel([run], now=NOW)


def training(run: RunDir) -> list[Member]:
    return [member for member in find_members(run) if member.role is Role.TRAINING]


def test_killed_before_it_was_submitted_requeue_goes_on_in_the_new_shape(
    local: LocalRuns,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = local.start_one(plan="endless train")
    wait_for_steps(run, 5)

    def killed(situation: RunSituation) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("sedd.amend.reshape.revive", killed)
        with pytest.raises(KeyboardInterrupt):
            reshape(run, Shape(processes=2), check=fine, now=NOW)
    assert query_run_status(run).status is RunStatus.OVER
    assert requeue([run], now=NOW)[0].changed
    wait_for_event(run, "completed")
    assert [e.get("ranks") for e in read_events(run.events) if e.event == "attempt_started"] == [1, 2]


def test_a_disk_that_is_full_once_the_run_was_stopped_is_told_with_what_starts_it_again(
    local: LocalRuns,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run = local.start_one(plan="endless train")
    wait_for_steps(run, 5)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(run.spec))

    with monkeypatch.context() as broken:
        broken.setattr("sedd.amend.spec_change.write_text", full)
        with pytest.raises(RunError, match="No space left") as refusal:
            reshape(run, Shape(processes=2), check=fine, now=NOW)
    assert "has no job now: repeat this, or sedd requeue" in (refusal.value.hint or "")
    assert reshape(run, Shape(processes=2), check=fine, now=NOW).changed
    wait_for_event(run, "completed")
    wait_for_end(run)


def test_a_run_without_a_job_is_told_to_be_submitted(local: LocalRuns) -> None:  # noqa: F811
    (run,) = local.make(small_experiment())
    with pytest.raises(RunError, match="not submitted yet"):
        reshape(run, Shape(processes=2), check=fine, now=NOW)
