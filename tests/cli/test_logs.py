"""`sedd logs` as a process."""

import datetime as dt
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sedd.rundir.events import append_event
from sedd.rundir.layout import RunDir, create_run, write_manifest


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    now = dt.datetime.now(dt.UTC)
    run = create_run(tmp_path / "my runs", "quick", "20261122-080000-1a2b3c4d", "name: x\n")
    write_manifest(run, {"created": now.isoformat(), "steps": 400, "executor": "local"})
    append_event(
        run.events, "submitted", attempt=0, now=now, job_id="elsewhere:1:1", executor="local", host="h"
    )
    return run


def start(run: RunDir, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sedd", "logs", "quick", *arguments]
    environment = os.environ | {"SEDD_RUNS": str(run.path.parent.parent)}
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        start_new_session=True,
    )


def test_of_a_sweep_the_point_that_moved_last_is_shown_and_named(run: RunDir) -> None:
    now = dt.datetime.now(dt.UTC)
    queued = create_run(run.path.parent.parent, "quick", "20261122-080001-1a2b3c4d", "name: x\n")
    for point, made in enumerate((run, queued)):
        about = {
            "created": now.isoformat(),
            "executor": "local",
            "sweep": "sweep-1",
            "point": {"seed": point},
        }
        write_manifest(made, about)
    run.heartbeat.write_text("{}")
    run.logs.mkdir(exist_ok=True)
    (run.logs / "1_0_log.out").write_text("step 1\n")
    out, said = start(run).communicate(timeout=300)
    assert out == "step 1\n"
    assert f"quick is a sweep of 2 runs; this is the one with the newest progress, {run.id} (seed=0)" in said


def test_of_a_training_in_the_foreground_there_is_no_log_and_it_says_why(run: RunDir) -> None:
    now = dt.datetime.now(dt.UTC)
    append_event(run.events, "attempt_started", attempt=1, now=now, executor="foreground")
    _, said = start(run).communicate(timeout=300)
    assert "attempt 1 ran in the foreground, and printed to its terminal" in said


def test_without_a_log_it_says_so(run: RunDir) -> None:
    process = start(run)
    out, err = process.communicate(timeout=300)
    assert (process.returncode, out) == (0, "")
    assert "No log yet" in err


def test_a_rank_that_a_started_run_does_not_have_is_not_waited_for(run: RunDir) -> None:
    append_event(
        run.events,
        "attempt_started",
        attempt=1,
        now=dt.datetime.now(dt.UTC),
        job_id="elsewhere:1:1",
        host="h",
    )
    _, err = start(run, "--rank", "3").communicate(timeout=300)
    assert "No log of rank 3 in" in err
    assert "no such rank" in err


def test_the_last_lines_of_the_asked_rank(run: RunDir) -> None:
    (run.logs / "7_0.out").write_text("of rank 0\n")
    (run.logs / "7_1.out").write_text("a\nb\nc\n")
    out, err = start(run, "--rank", "1", "--tail", "2").communicate(timeout=300)
    assert out == "b\nc\n"
    assert str(run.logs / "7_1.out") in err


def test_following_ends_with_the_run(run: RunDir) -> None:
    process = start(run, "-f")
    time.sleep(0.7)
    (run.logs / "7_0.out").write_text("hello\n")
    append_event(run.events, "completed", attempt=1, now=dt.datetime.now(dt.UTC), step=1)
    out, _ = process.communicate(timeout=300)
    assert (process.returncode, out) == (0, "hello\n")


def test_ctrl_c_ends_following_with_130(run: RunDir) -> None:
    (run.logs / "7_0.out").write_text("hello\n")
    process = start(run, "-f")
    assert process.stdout is not None
    assert process.stdout.readline() == "hello\n"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "Traceback" not in err


def test_of_a_job_that_died_before_any_rank_had_a_log_its_own_output_is_shown(run: RunDir) -> None:
    now = dt.datetime.now(dt.UTC)
    append_event(run.events, "submitted", attempt=0, now=now, job_id="12", executor="slurm", host="h")
    output = run.submitit / "12_0_log.out"
    output.write_text("loading\nNo module named 'submitit'\n")
    out, said = start(run, "--tail", "1").communicate(timeout=300)
    assert out == "No module named 'submitit'\n"
    assert said == f"{output}: what the job itself printed; no rank has a log\n"


def test_a_rank_that_the_run_does_not_have_is_refused_with_those_that_it_has(run: RunDir) -> None:
    write_manifest(run, {"created": "2026-11-22T08:00:00+00:00", "executor": "local", "ranks": 2})
    process = start(run, "--rank", "2")
    _, said = process.communicate(timeout=300)
    assert (process.returncode, said.splitlines()[0]) == (
        2,
        f"error: --rank is 2; run {run.id} has the ranks 0 to 1",
    )
