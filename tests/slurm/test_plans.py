"""Plans on a real SLURM: whatever happens to a stage's job or to the command that submits, each stage runs once."""

import contextlib
import datetime as dt
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from sedd.cluster import command
from sedd.cluster.control import update_job
from sedd.cluster.identity import own_job
from sedd.cluster.profile import SlurmProfile
from sedd.cluster.scontrol import query_job
from sedd.errors import ClusterError
from sedd.experiments.requeue_plan import requeue_plan
from sedd.launch.cancel import cancel
from sedd.launch.local_processes import wait_until
from sedd.launch.requeue import Requeued
from sedd.rundir.attempts import is_completed, is_left_out
from sedd.rundir.events import read_events
from sedd.rundir.find import list_runs
from sedd.rundir.layout import RunDir
from sedd.rundir.plan_record import PlanRecord
from tests.experiments.tiny_plan import PLAN, submitted, to_be_made, write_plan_file
from tests.launch.conftest import logs_of, story
from tests.slurm.conftest import DevCluster
from tests.slurm.test_launch import NOW, ended, job_of, started, training_pid, wait_for_word

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

SLURM = SlurmProfile.model_validate({"executor": "slurm", "partition": "requeue", "gpu": {"type": "v100"}})
KILLED = """
import os, signal, sys
from pathlib import Path
from sedd.launch import submit_slurm
from tests.experiments.tiny_plan import submitted
from tests.slurm.test_plans import SLURM
calls, limit = 0, int(sys.argv[2])
real = submit_slurm.sbatch
def sbatch(*arguments, **options):
    global calls
    calls += 1
    answer = real(*arguments, **options)
    if calls == limit:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer
submit_slurm.sbatch = sbatch
submitted(Path(sys.argv[1]), SLURM)
"""
LONG = PLAN.replace("steps: 4\n", "steps: 3500\n").replace("every_steps: 2}", "every_steps: 200}")


def stage(record: PlanRecord, name: str) -> tuple[RunDir, ...]:
    return next(stage.runs for stage in record.stages if stage.name == name)


def await_end(runs: Sequence[RunDir]) -> None:
    for run in runs:
        events = read_events(run.events)
        if not is_left_out(events) and not is_completed(events):
            wait_for_word(run, "cancelled" if run.name.endswith("rescue") else "completed")


def jobs_in_queue() -> list[str]:
    return command.run(["squeue", "--noheader", "--array", "--format=%i"]).split()


@pytest.mark.parametrize("calls", [1, 2, 4])
def test_a_submission_killed_between_sbatch_and_its_record_submits_each_stage_once(
    devcluster: DevCluster, tmp_path: Path, calls: int
) -> None:
    plan = write_plan_file(tmp_path)
    held = command.run(
        ["scontrol", "update", "PartitionName=requeue", "State=DOWN"]
    )  # nothing starts meanwhile
    assert held == ""
    try:
        command_line = [sys.executable, "-c", KILLED, str(plan), str(calls)]
        done = subprocess.run(command_line, cwd=Path(__file__).parents[2], check=False, timeout=300)
        assert done.returncode == -signal.SIGKILL
        record = submitted(plan, SLURM).record
        assert sorted(job_of(run) for run in record.runs) == sorted(jobs_in_queue())
        assert [story(run).count("submitted") for run in record.runs] == [1] * 7
        assert submitted(plan, SLURM).submitted == {}
        assert to_be_made(plan) == {}
    finally:
        command.run(["scontrol", "update", "PartitionName=requeue", "State=UP"])
        cancel(list_runs(tmp_path / "runs"), now=NOW)


def test_preempted_killed_and_renumbered_stages_are_waited_for_and_run_once(
    devcluster: DevCluster, tmp_path: Path
) -> None:
    """The command that has submitted the plan is over; nothing but SLURM and the jobs themselves carries it."""
    plan = write_plan_file(tmp_path, LONG)
    record = submitted(plan, SLURM).record
    (first, second), evaluate = stage(record, "train"), stage(record, "evaluate")
    (data,), (sample,), (rescue,) = (stage(record, name) for name in ("data", "sample", "rescue"))
    for run in (first, second):
        assert wait_until(lambda run=run: saves(run) > 0, timeout_s=200), logs_of(run)  # type: ignore[misc]
    old = job_of(first)
    command.run(["scontrol", "update", f"JobId={old}", "Requeue=0"])  # it will go on as a job of another id
    node = query_job(old)
    assert node is not None
    options = ("--partition=urgent", "--exclusive", "--time=10", f"--nodelist={node.nodes}")
    devcluster.submit("sleep 2", *options)  # takes the node from whoever is on it
    await_attempt(second, 2)
    os.kill(training_pid(second, rank=0), signal.SIGKILL)
    await_attempt(second, 3)
    os.kill(entry_pid_of_newest(second), signal.SIGKILL)
    await_end(record.runs)
    assert job_of(first) != old
    assert started(first) > ended(data)
    for fed, feeding in zip(evaluate, (first, second), strict=True):
        assert started(fed) > ended(feeding)
    assert started(sample) > max(ended(first), ended(second))
    assert is_left_out(read_events(rescue.events))
    for run in (data, *evaluate, sample):
        assert story(run).count("attempt_started") == 1
    assert submitted(plan, SLURM).submitted == {}


def saves(run: RunDir) -> int:
    return story(run).count("attempt_started") and len(list(run.checkpoints.glob("step-*.json")))


def await_attempt(run: RunDir, number: int) -> None:
    """Wait for an attempt of the run, without SLURM's pause after a requeue, until it trains."""

    def is_there() -> bool:
        job = query_job(job_of(run))
        soon = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=8)
        if job and job.state.is_waiting and job.starts_at and job.starts_at > soon:
            with contextlib.suppress(ClusterError):  # it may have begun since we looked
                update_job(own_job(job.job_id), start_soon=True)
        return any(e.event == "resumed" and e.attempt == number for e in read_events(run.events))

    assert wait_until(is_there, timeout_s=180), f"{story(run)}\n{logs_of(run)}"


def entry_pid_of_newest(run: RunDir) -> int:
    return int([e for e in read_events(run.events) if e.event == "attempt_started"][-1].get("pid"))


def test_a_plan_of_which_a_stage_gave_up_runs_its_rescue_and_goes_on_when_it_is_requeued(
    devcluster: DevCluster, tmp_path: Path
) -> None:
    text = PLAN.replace("fasta: [p.fasta], draws: 2", "fasta: [test.fasta], draws: 2", 1)
    plan = write_plan_file(
        tmp_path, text.replace("{train: on_failure}", "{train: afterok, evaluate: on_failure}")
    )
    record = submitted(plan, SLURM).record
    for run in stage(record, "evaluate"):
        wait_for_word(run, "gave_up")
    (rescue,) = stage(record, "rescue")
    wait_for_word(rescue, "completed")
    (tmp_path / "test.fasta").write_text((tmp_path / "p.fasta").read_text())
    outcomes = requeue_plan(record, now=NOW)
    assert set(outcomes) == set(stage(record, "evaluate"))
    assert all(isinstance(each, Requeued) and each.changed for each in outcomes.values())
    await_end(stage(record, "evaluate"))
