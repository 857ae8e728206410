"""Where a run stands: what its events and the machine say together."""

import datetime as dt
import os
import socket
from pathlib import Path

import pytest

from sedd.errors import RunError
from sedd.launch.liveness import RunStatus, query_run_status
from sedd.launch.local_processes import Role, role_in
from sedd.rundir.layout import RunDir
from tests.launch.conftest import write_events

HERE = socket.gethostname()


def run_with(tmp_path: Path, *events: dict[str, object]) -> RunDir:
    run = RunDir(tmp_path / "a run")
    run.path.mkdir()
    write_events(run, *events)
    return run


def submitted(executor: str, host: str = HERE) -> dict[str, object]:
    return {"event": "submitted", "executor": executor, "host": host, "job_id": ""}


def started(pid: int, host: str = HERE) -> dict[str, object]:
    now = dt.datetime.now(dt.UTC).isoformat()
    return {"event": "attempt_started", "attempt": 1, "pid": pid, "host": host, "t": now}


def test_a_local_run_without_processes_is_over(tmp_path: Path) -> None:
    run = run_with(tmp_path, submitted("local"), started(1))
    assert query_run_status(run).status is RunStatus.OVER


def test_completed_is_completed_whatever_came_after(tmp_path: Path) -> None:
    run = run_with(tmp_path, submitted("local"), started(1), {"event": "completed"}, submitted("local"))
    assert query_run_status(run).status is RunStatus.COMPLETED


def test_a_foreground_run_is_left_to_its_terminal_until_it_has_ended(tmp_path: Path) -> None:
    run = run_with(tmp_path, submitted("foreground"), started(os.getpid()))
    with pytest.raises(RunError, match="foreground") as refusal:
        query_run_status(run)
    assert "Ctrl-C" in (refusal.value.hint or "")
    write_events(run, submitted("foreground"), started(2**22 + 1))
    assert query_run_status(run).status is RunStatus.OVER
    write_events(run, submitted("foreground"), started(os.getpid()), {"event": "gave_up", "attempt": 1})
    assert query_run_status(run).status is RunStatus.OVER


def test_a_process_that_started_after_the_attempt_is_somebody_elses(tmp_path: Path) -> None:
    """Its number was given out anew, as after a reboot."""
    old = started(os.getpid()) | {"t": "2026-11-22T00:00:00+00:00"}
    assert query_run_status(run_with(tmp_path, submitted("foreground"), old)).status is RunStatus.OVER


def test_so_is_a_submitted_run_that_goes_on_in_the_foreground(tmp_path: Path) -> None:
    there = {**started(os.getpid()), "executor": "foreground"}
    run = run_with(tmp_path, submitted("local"), there)
    with pytest.raises(RunError, match="trains in the foreground"):
        query_run_status(run)
    write_events(run, submitted("local"), {**there, "pid": 2**22 + 1})
    assert query_run_status(run).status is RunStatus.OVER


def test_processes_are_known_by_the_run_in_their_command_line() -> None:
    run = RunDir(Path("/my runs/r"))
    python = ["python", "-u", "-m"]
    assert role_in([*python, "submitit.local._local", "/my runs/r/submitit", ""], run) is Role.CONTROLLER
    assert role_in([*python, "submitit.core._submit", "/my runs/r/submitit"], run) is Role.ENTRY
    assert role_in([*python, "sedd.job.worker", "/my runs/r"], run) is Role.TRAINING
    assert role_in([*python, "sedd.job.worker", "/my runs/r2"], run) is None
    assert role_in(["vim", "/my runs/r"], run) is None


def test_a_process_is_its_runs_by_whatever_link_the_run_is_named(tmp_path: Path) -> None:
    (tmp_path / "real" / "r").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real")
    real, linked = RunDir(tmp_path / "real" / "r"), RunDir(tmp_path / "link" / "r")
    for named in (real, linked):
        command = ["python", "-m", "sedd.job.worker", str(named.path)]
        assert role_in(command, linked) is Role.TRAINING
    assert role_in(["python", "-m", "sedd.job.worker", str(real.path)], real) is Role.TRAINING
