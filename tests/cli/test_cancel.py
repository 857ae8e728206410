"""`sedd cancel RUN…` as a user types it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sedd.cli import same_name
from sedd.rundir.layout import RunDir
from tests.command_line import sedd
from tests.launch.conftest import (  # noqa: F401 # local is a fixture
    LocalRuns,
    local,
    small_experiment,
    story,
    wait_for_steps,
    write_events,
)


def test_several_runs_in_one_command_and_one_json_document(local: LocalRuns) -> None:  # noqa: F811
    runs = local.start(small_experiment(), plan="long") + local.start(small_experiment(seed=1), plan="long")
    for run in runs:
        wait_for_steps(run, 2)
    command = [sys.executable, "-m", "sedd", "cancel", *(run.id for run in runs)]
    environment = os.environ | {"SEDD_RUNS": str(local.runs)}
    machine = subprocess.run(
        [*command, "--json"], env=environment, capture_output=True, text=True, check=True
    )
    assert [(r["id"], r["cancelled"]) for r in json.loads(machine.stdout)["runs"]] == [
        (r.id, True) for r in runs
    ]
    human = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert human.stdout.count("cancelled already") == 2


def test_the_run_is_cancelled_and_a_store_in_a_folder_of_its_name_is_left_alone(
    local: LocalRuns,  # noqa: F811
    store: Path,
    tmp_path: Path,
) -> None:
    (run,) = local.start(small_experiment(name="mine"), plan="long")
    wait_for_steps(run, 2)
    own = shutil.copytree(store, tmp_path / "mine" / "p.store")
    before = sorted(own.rglob("*"))
    done = sedd("cancel", "mine", runs=local.runs, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"mine/{run.id}: cancelled\n")
    for command in ("cancel", "requeue", "status", "logs", "report"):
        refused = sedd(command, "mine/p.store", runs=local.runs, cwd=tmp_path)
        assert refused.returncode == 2
        assert "p.store is not a run" in refused.stderr
    trained = sedd("train", "mine/p.store", runs=local.runs, cwd=tmp_path)
    assert trained.returncode == 2
    assert sorted(own.rglob("*")) == before


def test_what_became_of_each_run_is_told_also_when_one_of_them_cannot_be_cancelled(
    local: LocalRuns,  # noqa: F811
) -> None:
    (mine,) = local.start(small_experiment(), plan="long")
    wait_for_steps(mine, 2)
    (theirs,) = local.make(small_experiment(seed=1))
    write_events(theirs, {"event": "submitted", "executor": "local", "host": "far", "job_id": "far:1:1"})
    command = [sys.executable, "-m", "sedd", "cancel", theirs.id, mine.id]
    environment = os.environ | {"SEDD_RUNS": str(local.runs)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout == f"{mine.name}/{mine.id}: cancelled\n"
    assert done.stderr.splitlines() == [
        f"error: run {theirs.id} is a local run of far",
        "hint: log in to far and repeat the command there",
    ]
    assert story(theirs) == ["submitted"]

    unknown = subprocess.run(
        [*command, "nothing"], env=environment, capture_output=True, text=True, check=False
    )
    assert unknown.returncode == 2
    assert "no run was cancelled" in unknown.stderr


def test_a_sweep_is_cancelled_with_all_its_points_but_those_that_are_completed(
    local: LocalRuns,  # noqa: F811
) -> None:
    points = local.make(*(small_experiment(seed=n) for n in range(3)))
    submitted = {"event": "submitted", "executor": "foreground", "host": "here", "job_id": ""}
    for run, *later in ((points[0],), (points[1],), (points[2], {"event": "completed"})):
        write_events(run, submitted, *later)
    command = [sys.executable, "-m", "sedd", "cancel", points[0].name]
    environment = os.environ | {"SEDD_RUNS": str(local.runs)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ["cancelled" in story(run) for run in points] == [True, True, False]
    assert done.stdout.count("\n") == 2


def test_a_name_of_two_live_runs_means_the_newest_and_names_the_other_and_then_the_other(
    local: LocalRuns,  # noqa: F811
) -> None:
    older, newer = (local.start_one(small_experiment(seed=n), plan="endless") for n in (0, 1))
    older, newer = sorted((older, newer), key=lambda run: run.id)
    for run in (older, newer):
        wait_for_steps(run, 2)
    command = [sys.executable, "-m", "sedd", "cancel", "small"]
    environment = os.environ | {"SEDD_RUNS": str(local.runs)}

    shown = subprocess.run(
        [*command[:-2], "status", "small"], env=environment, capture_output=True, text=True
    )
    assert newer.id in shown.stdout
    assert shown.stderr == f"note: 1 other run of the name small goes on: {older.id}\n"

    def cancel() -> tuple[str, str]:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout, done.stderr

    assert cancel() == (
        f"small/{newer.id}: cancelled\n",
        f"note: 1 other run of the name small goes on: {older.id}\n",
    )
    assert "cancelled" not in story(older)
    assert cancel() == (
        f"small/{older.id}: cancelled\n",
        f"note: the newest run of small, {newer.id}, is over already; this is the older one, {older.id}\n",
    )
    assert cancel() == (f"small/{newer.id}: cancelled already\n", "")


def test_where_two_older_runs_are_alive_neither_is_meant_and_both_are_named(local: LocalRuns) -> None:  # noqa: F811
    runs = sorted((local.make(small_experiment(seed=n))[0] for n in range(3)), key=lambda run: run.id)
    far = {"event": "submitted", "executor": "local", "host": "far", "job_id": "far:1:1"}
    for run, *later in ((runs[0],), (runs[1],), (runs[2], {"event": "cancelled", "over": True})):
        write_events(run, far, *later)
    command = [sys.executable, "-m", "sedd", "cancel", "small"]
    environment = os.environ | {"SEDD_RUNS": str(local.runs)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == f"small/{runs[2].id}: cancelled already\n"
    assert done.stderr == f"note: 2 other runs of the name small go on: {runs[0].id}, {runs[1].id}\n"


def test_of_the_runs_that_a_name_means_nobody_is_asked_whether_they_are_alive(
    local: LocalRuns,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A sweep of a thousand points, or a SLURM that does not answer, costs no question more than before."""
    points = local.make(*(small_experiment(seed=n) for n in range(3)))
    for run in points:
        write_events(run, {"event": "submitted", "executor": "slurm", "host": "here", "job_id": "7"})
    asked: list[RunDir] = []
    monkeypatch.setattr(same_name, "is_alive", lambda run: bool(asked.append(run)))
    same_name.tell_of_others(["small"], points)
    same_name.choose_of_name("small", points[:1], is_over=lambda run: False)
    assert sorted(asked, key=str) == sorted(points[1:], key=str)  # ids of one second end in a hash
