"""`sedd status` as a process."""

import datetime as dt
import json
import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sedd.rundir.events import append_event
from sedd.rundir.find import find_runs, typed_plan, typed_sweep
from sedd.rundir.heartbeat import Heartbeat, write_heartbeat
from sedd.rundir.layout import RunDir, create_run, read_manifest, write_manifest
from sedd.rundir.plan_record import PlanRecord, StageRecord, find_plan, write_plan
from tests.command_line import BY_PERMISSION


def sedd(*arguments: str, runs: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {k: v for k, v in os.environ.items() if k not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")}
    command = [sys.executable, "-m", "sedd", *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=known | {"SEDD_RUNS": str(runs)} | environment,
        check=False,
    )


def make_run(runs: Path, name: str = "quickstart", identity: str = "20261122-080000-1a2b3c4d") -> RunDir:
    now = dt.datetime.now(dt.UTC)
    run = create_run(runs, name, identity, "name: x\n")
    manifest = {
        "created": now.isoformat(),
        "steps": 400,
        "gpus": 0,
        "executor": "local",
        "point": {},
        "sweep": None,
    }
    write_manifest(run, manifest)
    append_event(
        run.events, "submitted", attempt=0, now=now, job_id="elsewhere:1:1", executor="local", host="h"
    )
    append_event(
        run.events, "attempt_started", attempt=1, now=now, job_id="elsewhere:1:1", host="elsewhere", pid=1
    )
    beat = Heartbeat(
        t=now.isoformat(),
        progress_t=now.isoformat(),
        attempt=1,
        phase="training",
        step=100,
        steps=400,
        loss=2.7,
    )
    write_heartbeat(run.heartbeat, beat)
    return run


def kill(run: RunDir) -> None:
    """As a run looks whose processes on this machine were killed a while ago."""
    then = dt.datetime.now(dt.UTC) - dt.timedelta(minutes=10)
    told = {"job_id": "1", "host": socket.gethostname(), "pid": 1 << 30}
    append_event(run.events, "attempt_started", attempt=2, now=then, **told)
    run.heartbeat.unlink()


def test_lost_runs_draw_the_command_that_lets_them_go_on(tmp_path: Path) -> None:
    first, second = (make_run(tmp_path, identity=f"20261122-08000{n}-1a2b3c4d") for n in range(2))
    assert "sedd requeue" not in sedd("status", "--all", runs=tmp_path).stderr
    kill(first)
    done = sedd("status", "--all", runs=tmp_path)
    assert "lost" in done.stdout
    assert done.stderr == f"to continue the lost run: sedd requeue {first.id}\n"
    kill(second)
    assert sedd("status", "--all", runs=tmp_path).stderr == "to continue a lost run: sedd requeue RUN\n"


def test_no_runs_is_a_friendly_line_and_no_error(tmp_path: Path) -> None:
    done = sedd("status", runs=tmp_path)
    assert done.returncode == 0
    assert done.stdout == ""
    assert "sedd submit" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_no_runs_as_json_is_a_document(tmp_path: Path) -> None:
    assert json.loads(sedd("status", "--json", runs=tmp_path).stdout)["runs"] == []


def test_table_when_piped_is_plain(tmp_path: Path) -> None:
    make_run(tmp_path / "my runs")
    done = sedd("status", runs=tmp_path / "my runs")
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert done.stdout.splitlines()[1].split()[:3] == ["quickstart", "running", "█▎···"]


@pytest.mark.parametrize("word", ["quickstart", "20261122-080000-1a2b3c4d", "20261122"])
def test_json_of_one_run(tmp_path: Path, word: str) -> None:
    make_run(tmp_path)
    document = json.loads(sedd("status", word, "--json", runs=tmp_path).stdout)
    assert [(r["state"], r["step"], r["loss"]) for r in document["runs"]] == [("running", 100, 2.7)]


def test_json_of_one_run_tells_its_attempts(tmp_path: Path) -> None:
    make_run(tmp_path)
    run = json.loads(sedd("status", "quickstart", "--json", runs=tmp_path).stdout)["runs"][0]
    keys = {
        "attempt",
        "started",
        "host",
        "queued_s",
        "in_job",
        "ran_s",
        "first_step",
        "last_step",
        "lost_steps",
        "cause",
    }
    assert [set(attempt) for attempt in run["timeline"]] == [keys] * run["attempts"]
    assert "timeline" not in json.loads(sedd("status", "--json", runs=tmp_path).stdout)["runs"][0]


@pytest.mark.parametrize("has_namesake", [False, True])
def test_the_commands_below_a_run_outside_the_folder_of_runs_find_it(
    tmp_path: Path, has_namesake: bool
) -> None:
    run = make_run(tmp_path / "old runs")
    if has_namesake:  # as after a copy
        make_run(tmp_path / "runs")
    now = dt.datetime.now(dt.UTC)
    for number, host in enumerate(("elsewhere", "far"), start=1):
        proof = {"job_id": f"{host}:1:1", "executor": "local", "host": host}
        append_event(run.events, "submitted", attempt=number - 1, now=now, **proof)
        end = {"cause": "crashed", "detail": "RuntimeError: no", "step": 100}
        append_event(run.events, "gave_up", attempt=number, now=now, **end)
    (run.logs / "1_0.out").write_text("from elsewhere\n")
    shown = sedd("status", str(run.path), runs=tmp_path / "runs").stdout
    commands = [line for line in shown.splitlines() if line.startswith("sedd ")]
    assert [command.split()[1] for command in commands] == ["logs", "requeue", "report"]
    known = os.environ | {"SEDD_RUNS": str(tmp_path / "runs")}
    for command in commands:
        typed = command.replace("sedd", f"{sys.executable} -m sedd", 1)
        done = subprocess.run(typed, shell=True, env=known, cwd=tmp_path, capture_output=True, text=True)
        assert "no run '" not in done.stderr
        match command.split()[1]:
            case "logs":
                assert done.stdout.endswith("from elsewhere\n")
            case "report":
                assert done.returncode == 0
                assert "RuntimeError: no" in (tmp_path / "report.html").read_text(), "not of its namesake"
            case "requeue":
                assert f"run {run.id} is a local run of far" in done.stderr


def test_the_commands_below_a_run_in_the_folder_of_runs_have_its_id(tmp_path: Path) -> None:
    run = make_run(tmp_path / "kept")
    (tmp_path / "link").symlink_to("kept")
    for runs in ("kept", "link"):
        shown = sedd("status", str(run.path), runs=tmp_path / runs).stdout
        assert f"\nsedd requeue {run.id}\n" in shown


def test_the_commands_below_a_sweep_or_plan_outside_the_folder_of_runs_find_it(tmp_path: Path) -> None:
    run = make_run(tmp_path / "old")
    stage = StageRecord(name="all", task="train", runs=(run,), waits={}, by_point=())
    plan = PlanRecord(name="p", folder=tmp_path / "old" / "p" / "plan-1", stages=(stage,))
    assert typed_plan(plan, {"SEDD_RUNS": str(tmp_path / "old")}) == "p"
    assert typed_sweep(run, "sweep-1", {"SEDD_RUNS": str(tmp_path / "old")}) == "sweep-1"
    elsewhere = {"SEDD_RUNS": str(tmp_path / "runs")}
    write_plan(plan, "")
    named = find_plan(typed_plan(plan, elsewhere), tmp_path / "runs")
    assert named is not None
    assert named.folder == plan.folder
    write_manifest(run, read_manifest(run) | {"sweep": "sweep-1"})
    assert find_runs(typed_sweep(run, "sweep-1", elsewhere), tmp_path / "runs") == [run]


def test_status_imports_no_heavy_library(tmp_path: Path) -> None:
    make_run(tmp_path)
    code = (
        "import sys; sys.argv = ['sedd', 'status']\n"
        "from sedd.cli.main import main; main()\n"
        "heavy = {'pydantic', 'numpy', 'torch'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    environment = os.environ | {"SEDD_RUNS": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)


def test_an_unknown_run_is_bad_usage(tmp_path: Path) -> None:
    make_run(tmp_path)
    done = sedd("status", "quickstrat", runs=tmp_path)
    assert done.returncode == 2
    assert "did you mean 'quickstart'?" in done.stderr


@pytest.mark.parametrize("as_json", [False, True])
def test_of_several_runs_those_that_exist_are_shown_before_the_error(tmp_path: Path, as_json: bool) -> None:
    make_run(tmp_path, "first")
    make_run(tmp_path, "second", "20261122-090000-1a2b3c4d")
    more = ["--json"] if as_json else []
    done = sedd("status", "first", "absent", "second", "gone", *more, runs=tmp_path)
    assert done.returncode == 2, "as an unknown run alone"
    if as_json:
        assert [run["name"] for run in json.loads(done.stdout)["runs"]] == ["first", "second"]
    else:
        assert {"first", "second"} <= set(done.stdout.split())
    lines = done.stderr.splitlines()
    assert ["absent" in lines[0], "gone" in lines[1]] == [True, True], lines
    assert all(line.startswith("error: ") for line in lines[:2])


def test_older_runs_are_shown_on_request(tmp_path: Path) -> None:
    run = make_run(tmp_path, "old")
    then = dt.datetime.now(dt.UTC) - dt.timedelta(days=3)
    append_event(run.events, "completed", attempt=1, now=then, step=400)
    assert "1 ended earlier" in sedd("status", runs=tmp_path).stderr
    assert "completed" in sedd("status", "--all", runs=tmp_path).stdout


def test_status_imports_nothing_heavy(tmp_path: Path) -> None:
    make_run(tmp_path)
    code = (
        "import sys, sedd.cli.status as s\n"
        "assert 'pydantic' not in sys.modules\n"  # later versions of typer load it for their own use
        "s.command(runs=None, every=True, as_json=False)\n"
        "heavy = {'torch', 'wandb', 'numpy', 'submitit', 'pydantic', 'yaml'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    environment = os.environ | {"SEDD_RUNS": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, capture_output=True)


def test_a_sweep_is_shown_with_all_its_points(tmp_path: Path) -> None:
    for number, rate in enumerate((0.1, 0.2)):
        run = make_run(tmp_path, "grid", f"20261122-08000{number}-1a2b3c4d")
        manifest = json.loads(run.manifest.read_text())
        write_manifest(run, manifest | {"sweep": "sweep-1", "point": {"training.learning_rate": rate}})
    (tmp_path / "grid" / "sweep-1").mkdir()
    for typed in ("grid", "sweep-1"):
        told = json.loads(sedd("status", typed, "--json", runs=tmp_path).stdout)
        assert [run["point"]["training.learning_rate"] for run in told["runs"]] == [0.1, 0.2]
        assert "timeline" not in told["runs"][0]


@pytest.mark.parametrize(
    ("typed", "mode", "inside"),
    [
        *(
            (typed, 0o000, "")
            for typed in ("status --json", "logs x", "cancel x", "usage", "submit spec.yaml")
        ),
        *(("status", mode, "") for mode in (0o000, 0o444, 0o111)),
        ("status", 0o000, "deeper"),
    ],
)
def test_a_folder_of_runs_that_may_not_be_read_is_one_line(
    tmp_path: Path, typed: str, mode: int, inside: str
) -> None:
    (tmp_path / "spec.yaml").write_text("name: x\ntask: data\nbuild: {inputs: [x.fasta], store: x.store}\n")
    closed = tmp_path / "closed"
    closed.mkdir(mode)
    command = [*BY_PERMISSION, sys.executable, "-m", "sedd", *typed.split()]
    environment = os.environ | {"SEDD_RUNS": str(closed / inside)}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    closed.chmod(0o700)
    error, hint = done.stderr.splitlines()
    assert error == f"error: the folder of runs, {closed / inside}, cannot be read: Permission denied"
    assert hint == "hint: $SEDD_RUNS names it; set SEDD_RUNS to one that you may read"
    assert (done.returncode, done.stdout) == (2, "")


def test_a_folder_of_runs_that_is_a_file_is_an_error_and_a_missing_one_a_note(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    refused = sedd("status", runs=tmp_path / "file")
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "is not a folder" in refused.stderr
    missing = sedd("status", runs=tmp_path / "missing")
    assert missing.returncode == 0
    assert f"note: $SEDD_RUNS names {tmp_path}/missing, which does not exist" in missing.stderr


def make_plan(runs: Path, run: RunDir) -> None:
    stage = StageRecord(name="only", task="train", runs=(run,), waits={}, by_point=())
    folder = runs / "both" / "plan-20261122-080000-1a2b3c4d"
    write_plan(PlanRecord(name="both", folder=folder, stages=(stage,)), "name: both\n")


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize("thing", ["quickstart", "both"])
def test_what_is_named_twice_is_shown_once(tmp_path: Path, thing: str, as_json: bool) -> None:
    make_plan(tmp_path, make_run(tmp_path))
    options = ("--json",) if as_json else ()
    once = sedd("status", thing, *options, runs=tmp_path)
    again = sedd("status", thing, f"{thing}/", str(tmp_path / thing), *options, runs=tmp_path)
    assert (once.returncode, again.returncode) == (0, 0), again.stderr

    if as_json:
        one, two = json.loads(once.stdout), json.loads(again.stdout)
        assert one["plans"] == two["plans"]
        assert [run["id"] for run in one["runs"]] == [run["id"] for run in two["runs"]]
        return
    one, two = (re.sub(r"\d+", "0", done.stdout) for done in (once, again))  # time has passed
    assert one == two
