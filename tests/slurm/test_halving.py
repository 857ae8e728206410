"""A plan whose training is a halving sweep, on a real SLURM, with a job entry killed at a rung."""

import os
import signal
from pathlib import Path

import pytest

from sedd.launch.local_processes import Role, find_members, wait_until
from sedd.launch.wake import wake_sweeps_of
from sedd.rundir.attempts import is_left_out
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir
from tests.experiments.tiny_plan import PLAN, submitted, to_be_made, write_plan_file
from tests.halving.tiny_sweep import fates, is_over, trained_steps
from tests.launch.conftest import logs_of, story
from tests.slurm.conftest import DevCluster
from tests.slurm.test_plans import SLURM, stage

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(400)]

HALVED = PLAN.replace("steps: 4\n", "steps: 8\n").replace(
    "sweep: {grid: {seed: [0, 1]}, parallel: 2}",
    "sweep: {grid: {seed: [0, 1, 2]}, parallel: 3, halving: {rungs: [4], keep: 1/3}}",
)


def has_come_to_rung(run: RunDir) -> bool:
    return "rung" in story(run)


def test_stages_wait_for_the_winner_of_a_halving_sweep_though_its_job_ends_before_it(
    devcluster: DevCluster, tmp_path: Path
) -> None:
    record = submitted(write_plan_file(tmp_path, HALVED), SLURM).record
    trainings, evaluations = stage(record, "train"), stage(record, "evaluate")
    (sample,), (rescue,) = stage(record, "sample"), stage(record, "rescue")
    first = trainings[0]
    assert wait_until(lambda: has_come_to_rung(first), timeout_s=150), logs_of(first)
    for member in find_members(first):
        if member.role is Role.ENTRY:
            os.kill(
                member.process.pid, signal.SIGKILL
            )  # deciding, or about to submit: its batch script does the rest

    def is_done() -> bool:
        wake_sweeps_of(trainings)  # as `sedd status`
        ends = [*trainings, *evaluations, sample]
        return all(map(is_over, ends)) and is_left_out(read_events(rescue.events))

    assert wait_until(is_done, timeout_s=220), "\n".join(f"{story(r)}\n{logs_of(r)}" for r in record.runs)
    ends = fates(trainings)
    assert sorted(ends) == [((), "stopped"), ((), "stopped"), ((4,), "completed")]
    assert trained_steps(trainings) == 2 * 4 + 8
    assert sum(story(run).count("promoted") for run in trainings) == 1
    for fed, (_, word) in zip(evaluations, ends, strict=True):
        assert story(fed)[-1] == word
    (link,) = (tmp_path / "runs").glob("*/best/*")
    assert link.resolve() == trainings[[word for _, word in ends].index("completed")].path
    assert to_be_made(tmp_path / "plan.yaml") == {}
