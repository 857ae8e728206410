"""Halving sweeps on a real SLURM whose job entries and trainings are killed."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import pytest

from sedd.launch.local_processes import Role, find_members, wait_until
from sedd.launch.wake import wake_sweeps_of
from sedd.rundir.attempts import is_left_out
from sedd.rundir.events import read_events
from sedd.rundir.layout import RunDir
from tests.experiments.tiny_plan import PLAN, submitted, to_be_made, write_plan_file
from tests.halving.test_sweep_local import assert_as_never_killed
from tests.halving.tiny_sweep import fates, is_over, trained_steps, write_spec
from tests.halving.tiny_sweep import submitted as submitted_sweep
from tests.launch.conftest import logs_of, story
from tests.slurm.conftest import DevCluster
from tests.slurm.test_plans import SLURM, stage

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

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


def hurt_trainings_until_over(runs: Sequence[RunDir], draw: random.Random, *, kills: int) -> None:
    """SIGKILL trainings: one that has saved, or that has just come to a rung, passed it or resumed."""
    seen, deadline = dict.fromkeys(runs, 0), time.monotonic() + 300
    while not all(map(is_over, runs)):
        assert time.monotonic() < deadline, "\n".join(
            f"{story(r)}\n{logs_of(r)}" for r in runs if not is_over(r)
        )
        for run in runs:
            events = read_events(run.events)
            new, seen[run] = events[seen[run] :], len(events)
            is_place = any(e.event in ("checkpoint", "rung", "promoted", "resumed") for e in new)
            trainings = [m for m in find_members(run) if m.role is Role.TRAINING]
            if kills and is_place and trainings and draw.random() < 0.4:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(draw.choice(trainings).process.pid, signal.SIGKILL)
                    kills -= 1
        wake_sweeps_of(runs)
        time.sleep(0.05)


def test_trainings_that_are_killed_start_again_in_their_job_and_the_same_points_win(
    devcluster: DevCluster, tmp_path: Path
) -> None:
    points = "grid: {training.learning_rate: [1.0e-6, 1.0e-2, 1.0e-4, 3.0e-3]}"
    spec = write_spec(tmp_path, points=points, keep="1/2", rungs=(100, 200), steps=300, every=20, parallel=4)
    spec.write_text(spec.read_text().replace("tracking:", "retry: {without_progress: 6}\ntracking:"))
    runs = submitted_sweep(spec, SLURM)
    hurt_trainings_until_over(runs, random.Random(5), kills=6)
    assert_as_never_killed(spec, runs, rungs=(100, 200), steps=300, share=Fraction(1, 2))
    again = [e for run in runs for e in read_events(run.events) if e.event == "requeued"]
    assert any(e.get("in_job") for e in again), [story(run) for run in runs]
