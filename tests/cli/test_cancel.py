"""`sedd cancel RUN…` as a user types it."""

import json
import os
import subprocess
import sys

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
