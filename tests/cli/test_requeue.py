"""`sedd requeue RUN…` as a user types it."""

import datetime as dt
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sedd.cli import requeue as module
from sedd.launch.local_processes import find_members
from sedd.rundir.plan_record import PlanRecord, write_plan
from tests.disk import fill, small_disk
from tests.launch.conftest import (
    LocalRuns,
    local,  # noqa: F401 # a fixture
    small_experiment,
    wait_for_end,
    wait_for_event,
    write_events,
)


def test_a_full_disk_is_one_line_that_names_it(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", size="8m") as disk:
        runs = LocalRuns(disk / "runs")
        (run,) = runs.make(small_experiment())
        write_events(
            run, {"event": "submitted", "executor": "local", "host": socket.gethostname(), "job_id": "1"}
        )
        fill(disk)
        command = [sys.executable, "-m", "sedd", "requeue", run.name]
        environment = os.environ | {"SEDD_RUNS": str(runs.runs)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert not find_members(run), "nothing may have been started"
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.endswith(f"cannot write into {run.submitit}: No space left on device")


def test_a_run_that_gave_up_is_revived_by_its_name(local: LocalRuns) -> None:  # noqa: F811
    run = local.start_one(plan="crash crash train")
    wait_for_end(run)
    environment = os.environ | {"SEDD_RUNS": str(local.runs)}
    command = [sys.executable, "-m", "sedd", "requeue", run.name]
    done = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, check=True)
    (told,) = json.loads(done.stdout)["runs"]
    assert (told["id"], told["requeued"]) == (run.id, True)
    wait_for_event(run, "completed")
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: run {run.id} is completed")


def test_a_name_revives_its_newest_run_and_names_another_that_is_alive(local: LocalRuns) -> None:  # noqa: F811
    older, newer = sorted((local.make(small_experiment(seed=n))[0] for n in (0, 1)), key=lambda run: run.id)
    far = {"event": "submitted", "executor": "local", "host": "far", "job_id": "far:1:1"}
    write_events(older, far)
    here = far | {"host": socket.gethostname(), "job_id": f"{socket.gethostname()}:1:1"}
    write_events(newer, here, {"event": "cancelled", "over": True})
    environment = os.environ | {"SEDD_RUNS": str(local.runs)}
    command = [sys.executable, "-m", "sedd", "requeue", "small"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"small/{newer.id}: ")
    assert done.stderr == f"note: 1 other run of the name small goes on: {older.id}\n"
    wait_for_event(newer, "completed")
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert f"is over already; this is the older one, {older.id}" in refused.stderr
    assert f"run {older.id} is a local run of far" in refused.stderr


def test_a_plan_that_is_named_twice_is_requeued_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "both" / "plan-20261122-080000-1a2b3c4d"
    write_plan(PlanRecord(name="both", folder=folder, stages=()), "name: both\n")
    done: list[Path] = []
    monkeypatch.setenv("SEDD_RUNS", str(tmp_path))
    monkeypatch.setattr(module, "requeue_plan", lambda plan, *, now: done.append(plan.folder) or {})
    module._plans(["both", "both/", str(folder)], dt.datetime.now(dt.UTC))
    assert done == [folder]
