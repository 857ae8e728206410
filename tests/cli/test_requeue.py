"""`sedd requeue RUN…` as a user types it."""

import datetime as dt
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from unittest import mock

import pytest

from sedd.cli import requeue as module
from sedd.cli.changed_run import check_of_revival
from sedd.cli.soonest import pick_for_run
from sedd.errors import RunError, UsageError
from sedd.launch.local_processes import find_members
from sedd.preflight.run_checks import check_login
from sedd.rundir.events import read_events
from sedd.rundir.layout import read_manifest, write_manifest
from sedd.rundir.plan_record import PlanRecord, write_plan
from tests.command_line import call
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
        command = [sys.executable, "-m", "sedd", "requeue", run.name, "--no-preflight"]
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
    command = [sys.executable, "-m", "sedd", "requeue", run.name, "--no-preflight"]
    done = subprocess.run([*command, "--json"], env=environment, capture_output=True, text=True, check=True)
    (told,) = json.loads(done.stdout)["runs"]
    assert (told["id"], told["requeued"]) == (run.id, True)
    wait_for_event(run, "completed")
    refused = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"error: run {run.id} is completed")


def test_a_run_whose_store_is_gone_is_refused_in_one_line(local: LocalRuns) -> None:  # noqa: F811
    """It was submitted again, and gave up on its node."""
    run = local.start_one(plan="crash crash train")
    wait_for_end(run)
    before = read_events(run.events)
    environment = os.environ | {"SEDD_RUNS": str(local.runs)}
    command = [sys.executable, "-m", "sedd", "requeue", run.name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (error,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert error.endswith("data_store: /data/proteins.store does not exist")
    assert "--no-preflight does it all the same" in done.stderr
    assert read_events(run.events) == before
    assert not find_members(run)


def test_a_shape_that_nobody_can_pick_is_to_be_named_as_requeue_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A submission's hint spoke of --cluster and --set, which `sedd requeue` does not have."""
    monkeypatch.setenv("SEDD_RUNS", str(tmp_path / "runs"))
    (run,) = LocalRuns(tmp_path / "runs").make(small_experiment())
    with pytest.raises(UsageError, match="--soonest") as refusal:
        pick_for_run(run, checkpoints=None, is_running=False, as_json=False)
    assert refusal.value.hint == f"name a shape: sedd requeue {run.id} --gpus N --walltime TIME"


def test_a_number_of_checkpoints_without_a_choice_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SEDD_RUNS", str(tmp_path / "runs"))
    with pytest.raises(UsageError, match="--backfill is about time limits"):
        call("requeue", "small", "--backfill", 3)


def test_points_that_no_check_can_tell_apart_are_checked_once(tmp_path: Path) -> None:
    make = LocalRuns(tmp_path / "runs").make
    runs = [*make(small_experiment(seed=1)), *make(small_experiment(seed=2))]
    told: list[str] = []
    check = check_of_revival(True, notify=told.append)
    assert check is not None
    with mock.patch("sedd.preflight.run_checks.check_login", wraps=check_login) as asked:
        for run in runs:
            with pytest.raises(RunError, match="data_store"):
                check(run)
        (other,) = make(small_experiment(name="other"))
        with pytest.raises(RunError, match="data_store"):
            check(other)
    assert asked.call_count == 2


def test_what_a_run_waits_for_may_have_to_make_what_it_reads(tmp_path: Path) -> None:
    first, second = (LocalRuns(tmp_path / "runs").make(small_experiment(seed=n))[0] for n in (1, 2))
    write_manifest(second, read_manifest(second) | {"after": [str(first.path)]})
    check = check_of_revival(True)
    assert check is not None
    check(second)
    write_events(first, {"event": "completed"})
    with pytest.raises(RunError, match="data_store"):
        check(second)


def test_a_name_revives_its_newest_run_and_names_another_that_is_alive(local: LocalRuns) -> None:  # noqa: F811
    older, newer = sorted((local.make(small_experiment(seed=n))[0] for n in (0, 1)), key=lambda run: run.id)
    far = {"event": "submitted", "executor": "local", "host": "far", "job_id": "far:1:1"}
    write_events(older, far)
    here = far | {"host": socket.gethostname(), "job_id": f"{socket.gethostname()}:1:1"}
    write_events(newer, here, {"event": "cancelled", "over": True})
    environment = os.environ | {"SEDD_RUNS": str(local.runs)}
    command = [sys.executable, "-m", "sedd", "requeue", "small", "--no-preflight"]
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
    monkeypatch.setattr(module, "requeue_plan", lambda plan, *, now, check: done.append(plan.folder) or {})
    module._plans(["both", "both/", str(folder)], dt.datetime.now(dt.UTC), None)
    assert done == [folder]
