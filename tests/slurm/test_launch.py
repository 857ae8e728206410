"""Runs on a real SLURM: preempted, moved, killed, cancelled; they go on, or stay ended, as DESIGN 5 says."""

import contextlib
import datetime as dt
import os
import shutil
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from submitit.core.utils import JobPaths

from sedd.cluster import command
from sedd.cluster.control import scancel, update_job
from sedd.cluster.identity import own_job
from sedd.cluster.jobs import JobFact
from sedd.cluster.profile import SlurmProfile
from sedd.cluster.scontrol import query_job
from sedd.cluster.states import JobState
from sedd.errors import ClusterError, RunError
from sedd.job.entry import make_task
from sedd.job.environment import TaskEnvironment
from sedd.job.next_attempt import ensure_next_attempt
from sedd.launch.cancel import cancel
from sedd.launch.freeze import code_hash
from sedd.launch.local_processes import wait_until
from sedd.launch.make_runs import make_runs
from sedd.launch.predecessors import Needs, dependency_on
from sedd.launch.requeue import requeue
from sedd.launch.resources import slurm_parameters
from sedd.launch.submit_slurm import submit_slurm
from sedd.rundir.attempts import Cause, parse_attempts
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir, read_manifest, write_manifest
from sedd.rundir.process_name import find_place
from sedd.spec.experiment import Experiment
from sedd.spec.load import load_resolved
from tests.launch.conftest import (
    STAND_IN,
    logs_of,
    order_for,
    small_experiment,
    story,
    wait_for_event,
    wait_for_steps,
)
from tests.slurm.conftest import NODES, DevCluster

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

NOW = dt.datetime.now(dt.UTC)
WHOLE_NODE = {"gpus_per_node": 4, "processes_per_node": 1, "cpus_per_process": 1, "memory": "1GiB"}
URGENT = ("--partition=urgent", "--gpus-per-node=4", "--time=10", "--mem=1000")
Start = Callable[..., list[RunDir]]


@pytest.fixture
def start(devcluster: DevCluster, tmp_path: Path) -> Start:
    """Submit runs whose training process is the stand-in of tests/launch, as one job or array."""

    def submit(
        *experiments: Experiment,
        plan: str = "train",
        partition: str = "requeue",
        after: Sequence[RunDir] = (),
        requeues: bool | None = True,
        setup: Sequence[str] = (),
        folder: Path = tmp_path / "my runs",
        **options: object,
    ) -> list[RunDir]:
        site = {"executor": "slurm", "partition": partition, "gpu": {"type": "v100"}, "requeue": requeues}
        profile = SlurmProfile.model_validate(site | {"setup": setup, "sbatch": options})
        made = experiments or (small_experiment(resources=WHOLE_NODE),)
        order = order_for(*made, runs=folder, profile=profile, after=after)
        batch = make_runs(order, now=NOW, made=[])
        code, submitit = batch.folder / "code", batch.folder / "submitit"
        shutil.copy(STAND_IN, code / "sedd" / "job" / "worker.py")
        for run in batch.runs:
            write_manifest(run, read_manifest(run) | {"code_hash": code_hash(code / "sedd")})
            (run.path / "plan.txt").write_text(plan)
        wait = dependency_on(Needs(completed=tuple(after)), executor="slurm")
        parameters = slurm_parameters(made[0], profile, code=code, submitit=submitit, dependency=wait)
        submit_slurm(batch.runs, parameters, folder=submitit)
        return list(batch.runs)

    return submit


def job_of(run: RunDir) -> str:
    return str([e for e in read_events(run.events) if e.event == "submitted"][-1].get("job_id"))


def slurm_state(run: RunDir) -> JobState | None:
    job = query_job(job_of(run))
    return job.state if job else None


def wait_for_word(run: RunDir, word: str, *, timeout_s: float = 240.0) -> None:
    """Wait for the run's word; a wait that SLURM imposes after a requeue is waived, as its owner may."""

    def is_said() -> bool:
        hurry(job_of(run))
        return word in story(run) or any(told.startswith(f"{word}:") for told in story(run))

    assert wait_until(is_said, timeout_s=timeout_s), f"{story(run)}\n{query_job(job_of(run))}\n{logs_of(run)}"


def hurry(job_id: str) -> None:
    """Waive the wait of a job that pauses after its requeue."""
    job = query_job(job_id)
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=8)
    if job and job.state.is_waiting and job.starts_at and job.starts_at > soon:
        with contextlib.suppress(ClusterError):  # it may have begun since we looked
            update_job(own_job(job.job_id), start_soon=True)


def is_(state: JobState) -> Callable[[JobFact], bool]:
    return lambda job: job.state is state


def preempt(cluster: DevCluster, run: RunDir) -> str:
    """Take the run's node away for two seconds."""
    job = query_job(job_of(run))
    assert job is not None
    return cluster.submit("sleep 2", f"--nodelist={job.nodes}", *URGENT)


def training_pid(run: RunDir, rank: int) -> int:
    """The process that trains as `rank`, whichever node of this machine it is on."""
    for entry in Path("/proc").iterdir():
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0") if entry.name.isdigit() else []
            if b"sedd.job.worker" not in arguments or str(run.path).encode() not in arguments:
                continue
            if (place := find_place(int(entry.name))) and place.rank == rank:
                return int(entry.name)
        except OSError:
            continue
    raise AssertionError(f"nobody trains as rank {rank}:\n{logs_of(run)}")


def entry_pid(run: RunDir) -> int:
    return int(wait_for_event(run, "attempt_started", timeout_s=180).get("pid"))


def started(run: RunDir) -> dt.datetime:
    """When its first attempt began."""
    return next(e.t for e in read_events(run.events) if e.event == "attempt_started")


def ended(run: RunDir) -> dt.datetime:
    """When it completed."""
    return next(e.t for e in read_events(run.events) if e.event == "completed")


def assert_nothing_was_repeated(run: RunDir) -> None:
    """Each attempt began where the one before had stopped; one that was ended before it trained does not count."""
    attempts = [attempt for attempt in parse_attempts(read_events(run.events)) if attempt.has_begun]
    assert [b.first_step for b in attempts[1:]] == [a.last_step for a in attempts[:-1]], story(run)


def test_a_run_completes_and_slurm_agrees(devcluster: DevCluster, start: Start) -> None:
    (run,) = start()
    wait_for_word(run, "completed")
    devcluster.wait(job_of(run), is_(JobState.COMPLETED))
    assert story(run) == ["submitted", "attempt_started", "completed"]


@pytest.mark.parametrize("partition", ["requeue", "nograce", "cancel"])
def test_a_preempted_run_saves_and_goes_on_where_it_was(
    devcluster: DevCluster, start: Start, partition: str
) -> None:
    (run,) = start(plan="endless train", partition=partition)
    wait_for_steps(run, 10)
    preempt(devcluster, run)
    wait_for_word(run, "completed")
    assert "requeued:preempted" in story(run)
    assert_nothing_was_repeated(run)
    assert len({e.get("job_id") for e in read_events(run.events) if e.event == "attempt_started"}) == 1


def test_a_preemption_that_sends_the_users_signal_is_survived(devcluster: DevCluster, start: Start) -> None:
    devcluster.switch("user-signal", "on")
    try:
        (run,) = start(plan="endless train")
        wait_for_steps(run, 10)
        preempt(devcluster, run)
        wait_for_word(run, "completed")
        assert "requeued:preempted" in story(run)
        assert_nothing_was_repeated(run)
    finally:
        devcluster.switch("user-signal", "off")


def test_a_run_cancelled_by_scancel_is_not_revived(devcluster: DevCluster, start: Start) -> None:
    (run,) = start(plan="endless")
    wait_for_steps(run, 10)
    scancel([own_job(job_of(run))])
    wait_for_word(run, "cancelled")
    devcluster.wait(job_of(run), is_(JobState.CANCELLED))
    assert story(run)[:3] == ["submitted", "attempt_started", "stop_requested"]


def test_sedd_cancel_ends_runs_in_whatever_state_they_are(devcluster: DevCluster, start: Start) -> None:
    running = start(plan="endless")[0]
    wait_for_steps(running, 10)
    waiting = start(plan="endless", after=[running])[0]
    results = cancel([running, waiting], now=NOW)
    assert all(result.changed for result in results)
    for run in (running, waiting):
        devcluster.wait(job_of(run), is_(JobState.CANCELLED))
        assert "cancelled" in story(run)
    assert "attempt_started" not in story(waiting)
    (again,) = requeue([running], now=NOW)
    assert again.changed
    assert wait_until(lambda: story(running).count("attempt_started") == 2, timeout_s=180)


def test_a_run_is_moved_on_by_its_user(devcluster: DevCluster, start: Start) -> None:
    (run,) = start(plan="endless train")
    wait_for_steps(run, 10)
    requeue([run], now=NOW)
    wait_for_word(run, "completed")
    assert "requeued:moved" in story(run)
    assert_nothing_was_repeated(run)


def test_when_the_job_entry_is_killed_the_batch_script_decides(devcluster: DevCluster, start: Start) -> None:
    (run,) = start(plan="endless train")
    wait_for_steps(run, 10)
    os.kill(entry_pid(run), signal.SIGKILL)
    wait_for_word(run, "completed")
    assert "requeued:killed" in story(run)


def test_a_killed_rank_and_a_hang_start_the_next_attempt_in_the_same_job(
    devcluster: DevCluster, start: Start
) -> None:
    """Rank 3 is killed on another node; then all ranks stand still, rank 1 stopped by SIGSTOP."""
    two_by_two = {"nodes": 2, "gpus_per_node": 2, "cpus_per_process": 1, "memory": "1GiB"}
    patient = small_experiment(resources=two_by_two, retry={"hang_after": "3s", "crashes": 0})
    (run,) = start(patient, plan="endless halt@30 train")
    wait_for_steps(run, 10)
    assert wait_until(lambda: (run.path / "progress-3.txt").exists(), timeout_s=120)
    os.kill(training_pid(run, rank=3), signal.SIGKILL)
    wait_for_word(run, "completed", timeout_s=180)
    events = read_events(run.events)
    ends = [(e.get("cause"), e.get("in_job")) for e in events if e.event == "requeued"]
    assert ends == [("killed", True), ("hung", True)], story(run)
    failures = {(e.get("cause"), e.get("rank")) for e in events if e.event == "failed"}
    assert failures == {("killed", 3), ("hung", 0)}
    starts = [(e.get("job_id"), e.get("restarts")) for e in events if e.event == "attempt_started"]
    assert starts == [(job_of(run), 0)] * 3
    assert len({e.get("port") for e in events if e.event == "attempt_started"}) > 1
    for rank in range(4):
        (log,) = run.logs.glob(f"*_{rank}.out")
        assert "in misbehave" in log.read_text(), f"no stack of rank {rank}"
    devcluster.wait(job_of(run), is_(JobState.COMPLETED))


def test_where_slurm_refuses_a_requeue_a_new_job_takes_the_run_over_once(
    devcluster: DevCluster, start: Start
) -> None:
    (run,) = start(plan="endless train")
    wait_for_steps(run, 10)
    first = job_of(run)
    command.run(["scontrol", "update", f"JobId={first}", "Requeue=0"])
    (later,) = start(after=[run])  # waits for the run, not for the job that it began in
    preempt(devcluster, run)
    wait_for_word(run, "completed")
    submitted = [e for e in read_events(run.events) if e.event == "submitted"]
    assert [e.get("continues") for e in submitted] == [None, first]
    assert_nothing_was_repeated(run)
    wait_for_word(later, "completed")
    assert started(later) > ended(run)


@pytest.mark.parametrize(
    ("partition", "requeues"), [("requeue", None), ("nograce", None), ("requeue", False), ("nograce", False)]
)
def test_a_run_that_may_have_a_new_job_makes_no_pause(
    devcluster: DevCluster, start: Start, partition: str, requeues: bool | None
) -> None:
    """Also where SLURM has requeued the job before anybody is asked; the old job is out of the queue then."""
    (run,) = start(plan="endless train", partition=partition, requeues=requeues)
    wait_for_steps(run, 10)
    first = job_of(run)
    preempt(devcluster, run)
    wait_for_word(run, "completed")
    assert_nothing_was_repeated(run)
    jobs = [e.get("job_id") for e in read_events(run.events) if e.event == "attempt_started"]
    assert jobs == [first, job_of(run)]
    assert jobs[0] != jobs[1]
    devcluster.wait(first, lambda job: job.state.is_final)
    assert slurm_state(run) is not JobState.PENDING


@pytest.mark.parametrize("point", [0, 2])
def test_a_point_of_a_sweep_without_a_limit_goes_on_without_a_pause_and_leaves_its_siblings_alone(
    devcluster: DevCluster, start: Start, point: int
) -> None:
    """Also the point whose own number in SLURM is that of its array."""
    runs = start(
        *(small_experiment(seed=n, resources=WHOLE_NODE) for n in range(3)),
        plan="endless train",
        requeues=None,
    )
    for run in runs:
        wait_for_steps(run, 10)
    array = job_of(runs[0]).partition("_")[0]
    preempt(devcluster, runs[point])
    wait_for_word(runs[point], "completed")
    assert_nothing_was_repeated(runs[point])
    jobs = [e.get("job_id") for e in read_events(runs[point].events) if e.event == "attempt_started"]
    assert jobs == [f"{array}_{point}", job_of(runs[point])]
    assert "_" not in jobs[1]
    others = [run for run in runs if run is not runs[point]]
    assert [story(run).count("attempt_started") for run in others] == [1, 1]
    assert all(slurm_state(run) is JobState.RUNNING for run in others)
    (cancelled,) = cancel(others[:1], now=NOW)
    assert "cancelled" in cancelled.detail
    assert wait_until(lambda: slurm_state(others[0]) is not JobState.RUNNING, timeout_s=180)
    assert slurm_state(others[1]) is JobState.RUNNING


def test_a_run_may_have_another_shape_in_its_next_job(devcluster: DevCluster, start: Start) -> None:
    """Preempted on four cards, it goes on at once on the two that are free instead of waiting for hours."""
    ranges = {"gpus": "2-4", "gpus_per_node": 4, "walltime": "10m-24h", "repick": True}
    small = {"cpus_per_process": 1, "memory": "1GiB"}
    (run,) = start(small_experiment(resources=ranges | small), plan="endless train", requeues=None)
    wait_for_steps(run, 10)
    job = query_job(job_of(run))
    assert job is not None
    others = [node for node in NODES if node != job.nodes]
    for node, gpus in zip(others, (4, 4, 2), strict=True):
        held = devcluster.submit(
            "sleep 600", "--time=600", "--mem=1000", f"--nodelist={node}", f"--gpus-per-node={gpus}"
        )
        devcluster.wait(held, is_(JobState.RUNNING))
    devcluster.submit(
        "sleep 600", "--partition=urgent", "--time=600", "--exclusive", f"--nodelist={job.nodes}"
    )
    wait_for_word(run, "completed")
    starts = [e for e in read_events(run.events) if e.event == "attempt_started"]
    assert [(e.get("ranks"), e.get("gpus")) for e in starts] == [(4, 4), (2, 2)], logs_of(run)
    assert story(run).count("reshaped") == 1, story(run)
    assert load_resolved(run.spec).resources.gpus_per_node == 2
    assert read_manifest(run)["ranks"] == 2
    assert_nothing_was_repeated(run)


def test_a_job_that_cannot_be_taken_out_of_the_queue_trains_before_the_one_that_was_to_replace_it(
    devcluster: DevCluster, start: Start, tmp_path: Path
) -> None:
    """As where its entry is killed between the two requests: both wait, one trains at a time, and once."""
    broken = tmp_path / "bin" / "scancel"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\nexit 1\n")
    broken.chmod(0o755)
    (run,) = start(plan="endless train", requeues=None, setup=[f"export PATH={broken.parent}:$PATH"])
    wait_for_steps(run, 10)
    first = job_of(run)
    preempt(devcluster, run)
    assert wait_until(lambda: job_of(run) != first, timeout_s=180)

    def is_done() -> bool:
        hurry(first)
        return "completed" in story(run)

    assert wait_until(is_done, timeout_s=120), logs_of(run)
    devcluster.wait(job_of(run), is_(JobState.COMPLETED))
    assert [e.get("job_id") for e in read_events(run.events) if e.event == "attempt_started"] == [first] * 2
    assert_nothing_was_repeated(run)


def test_what_comes_after_a_run_waits_through_its_requeues_and_not_for_ever(
    devcluster: DevCluster, start: Start
) -> None:
    policy = {"crashes": 0, "without_progress": 1}
    (run,) = start(small_experiment(resources=WHOLE_NODE, retry=policy), plan="endless crash@15 train")
    (later,) = start(after=[run])
    wait_for_steps(run, 10)
    requeue([run], now=NOW)
    wait_for_word(run, "gave_up")
    assert "requeued:moved" in story(run)
    devcluster.wait(job_of(later), lambda job: job.reason == "DependencyNeverSatisfied")
    with pytest.raises(RunError, match="will not complete"):
        dependency_on(Needs(completed=(run,)), executor="slurm")
    requeue([run], now=NOW)  # a new job, for which the other now waits
    wait_for_word(later, "completed")
    assert started(later) > ended(run)


def test_a_continuation_that_no_event_mentions_is_not_submitted_twice(
    devcluster: DevCluster, start: Start
) -> None:
    """Whoever asks may be killed between sbatch and the event; the one who asks again finds the job itself."""
    (run,) = start(plan="endless")
    wait_for_steps(run, 10)
    first = job_of(run)
    command.run(["scontrol", "update", f"JobId={first}", "Requeue=0"])
    task = make_task(run, TaskEnvironment(executor="slurm", job_id=first, log_name=first, host="v100-1"))

    def ask() -> str:
        assert ensure_next_attempt(task, (), attempt=1, cause=Cause.PREEMPTED)
        return job_of(run)

    def forget() -> None:
        lines = run.events.read_text().splitlines(keepends=True)
        run.events.write_text("".join(line for line in lines if '"continues"' not in line))

    def waiting() -> list[str]:
        return command.run(["squeue", "--noheader", "--states=PENDING", "--format=%i"]).split()

    second = ask()
    assert ask() == second
    forget()
    assert ask() == second
    assert waiting() == [second]
    forget()
    JobPaths(
        run.submitit, job_id=second
    ).submitted_pickle.unlink()  # submitit's own last step was not reached
    third = ask()
    assert third != second
    assert wait_until(lambda: waiting() == [third], timeout_s=120), waiting()


def test_a_job_that_has_the_id_of_a_lost_one_is_left_alone_and_the_run_goes_on(
    devcluster: DevCluster, start: Start
) -> None:
    """SLURM has lost its state and counted anew while the run's processes went on."""
    (run,) = start(plan="endless")
    wait_for_steps(run, 10)
    stranger = devcluster.submit("sleep 300", "--mem=100")
    devcluster.wait(stranger, is_(JobState.RUNNING))
    run.events.write_text(
        run.events.read_text().replace(f'"job_id": "{job_of(run)}"', f'"job_id": "{stranger}"')
    )
    here = TaskEnvironment(executor="slurm", job_id=stranger, log_name=stranger, host="v100-1")
    events = read_events(run.events)
    assert ensure_next_attempt(make_task(run, here), events, attempt=1, cause=Cause.PREEMPTED)
    untouched, successor = query_job(stranger), query_job(job_of(run))
    assert untouched is not None
    assert (untouched.state, untouched.restarts) == (JobState.RUNNING, 0)
    assert successor is not None
    assert successor.job_id != stranger
    assert successor.reason != "Dependency", "it would wait for a stranger"


def test_a_node_fault_sends_the_run_to_another_node(devcluster: DevCluster, start: Start) -> None:
    (run,) = start(plan="fault@5 train")
    wait_for_word(run, "completed")
    hosts = [e.get("host") for e in read_events(run.events) if e.event == "attempt_started"]
    assert len(hosts) == 2
    assert hosts[0] != hosts[1], logs_of(run)


@pytest.mark.parametrize(
    ("nodes", "faulty_rank"), [(2, 1), (2, 0), (1, 0)]
)  # the first node's entry leads, until then
def test_a_spare_node_takes_the_place_of_a_faulty_one_in_the_same_job(
    devcluster: DevCluster, start: Start, nodes: int, faulty_rank: int
) -> None:
    resources = WHOLE_NODE | {"nodes": nodes, "spare_nodes": 1}
    (run,) = start(small_experiment(resources=resources), plan=f"fault{faulty_rank}@5 train")
    wait_for_word(run, "completed", timeout_s=180)
    first, second = (e for e in read_events(run.events) if e.event == "attempt_started")
    assert (first.get("job_id"), first.get("restarts")) == (second.get("job_id"), second.get("restarts"))
    (faulty,) = (e.get("host") for e in read_events(run.events) if e.event == "failed")
    assert second.get("left_out") == {faulty: faulty_rank}
    assert (second.get("host") != first.get("host")) == (faulty_rank == 0)
    hosts = [line for line in logs_of(run).splitlines() if line.startswith("=== attempt 2")]
    assert len(hosts) == nodes
    assert not any(faulty in line for line in hosts)
    devcluster.wait(job_of(run), is_(JobState.COMPLETED))


def test_a_run_that_gave_up_has_failed_for_slurm_and_can_be_revived(
    devcluster: DevCluster, start: Start
) -> None:
    (run,) = start(small_experiment(resources=WHOLE_NODE, retry={"crashes": 0}), plan="crash@5 train")
    wait_for_word(run, "gave_up")
    first = job_of(run)
    devcluster.wait(first, is_(JobState.FAILED))
    requeue([run], now=NOW)
    wait_for_word(run, "completed")
    assert job_of(run) != first
    assert_nothing_was_repeated(run)


def test_one_preempted_task_of_an_array_leaves_its_siblings_alone(
    devcluster: DevCluster, start: Start
) -> None:
    runs = start(*(small_experiment(seed=n, resources=WHOLE_NODE) for n in range(3)), plan="long")
    for run in runs:
        wait_for_steps(run, 10)
    preempt(devcluster, runs[0])
    for run in runs:
        wait_for_word(run, "completed")
    assert {job_of(run).rpartition("_")[2] for run in runs} == {"0", "1", "2"}
    assert [story(run).count("attempt_started") for run in runs] == [2, 1, 1]
    assert_nothing_was_repeated(runs[0])
