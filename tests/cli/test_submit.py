"""`sedd submit`, as a user types it: real training of a tiny network in submitit's local executor."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sedd.cluster.local import signal_local
from sedd.errors import UsageError
from sedd.launch.local_processes import find_members, wait_until
from sedd.rundir.events import read_events
from sedd.rundir.find import list_runs
from sedd.rundir.layout import RunDir
from tests.command_line import call, sedd_here
from tests.inference.networks import write_adapters_folder
from tests.launch import fake_slurm

SPEC = """
name: tiny
data: {{store: "{store}", max_length: 64}}
model: {{hidden: 16, cond: 8, blocks: 1, heads: 2}}
training:
  steps: {steps}
  residues_per_step: 512
  residues_per_gpu: 256
  warmup_steps: 2
  log_every_steps: 2
  validation: {{residues: 1024}}
resources: {{gpus_per_node: 0, cpus_per_process: 1, memory: 1GiB}}
tracking: {{wandb: disabled}}
"""


class Desk:
    """A folder in which somebody works."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.runs = folder, folder / "runs"
        (folder / "jobs").mkdir(parents=True)
        self.spec = folder / "jobs" / "tiny.yaml"
        self.spec.write_text(SPEC.format(store=data, steps=6))
        self.endless = folder / "jobs" / "endless.yaml"
        self.endless.write_text(SPEC.format(store=data, steps=1_000_000))

    def command(self, *arguments: str | Path) -> list[str]:
        return [sys.executable, "-m", "sedd", *map(str, arguments)]

    def sedd(self, *arguments: str | Path, **options: Any) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=300,
            env=os.environ | {"COLUMNS": "100"},
            check=False,
            **options,
        )


@pytest.fixture
def desk(tmp_path: Path, store: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path / "my desk", store)
    yield desk
    for run in list_runs(desk.runs):
        for member in find_members(run):
            signal_local(member.process, signal.SIGKILL)


def only_run(desk: Desk) -> RunDir:
    (run,) = list_runs(desk.runs)
    return run


def wait_until_training(run: RunDir) -> None:
    ready = wait_until(lambda: run.metrics.exists() and run.metrics.stat().st_size > 0, timeout_s=180)
    assert ready, [path.read_text() for path in run.logs.iterdir()]


def test_submit_wait_then_everything_that_can_be_asked_of_a_completed_run(desk: Desk) -> None:
    done = desk.sedd("submit", desk.spec, "--wait", "--json", "--no-preflight")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    run = only_run(desk)
    assert told["succeeded"] is True
    assert [(r["id"], r["path"]) for r in told["runs"]] == [(run.id, str(run.path))]
    assert read_events(run.events)[-1].event == "completed"

    again = desk.sedd("submit", desk.spec, "--no-preflight")
    assert again.returncode == 1
    assert run.id in again.stderr
    assert "completed" in again.stderr
    assert "--resubmit" in again.stderr
    assert "Traceback" not in again.stderr
    assert only_run(desk) == run

    requeued = desk.sedd("requeue", run.id)
    assert requeued.returncode == 1
    assert "completed" in requeued.stderr
    cancelled = desk.sedd("cancel", "tiny")
    assert cancelled.returncode == 0
    assert "completed already" in cancelled.stdout


def test_a_submission_returns_at_once_also_into_a_pipe_and_names_the_next_commands(desk: Desk) -> None:
    shell = f"{shlex.quote(sys.executable)} -m sedd submit jobs/endless.yaml --no-preflight | cat"
    done = subprocess.run(
        ["bash", "-c", shell], cwd=desk.folder, capture_output=True, text=True, timeout=300, check=True
    )
    run = only_run(desk)
    for command in ("sedd status", "sedd logs", "sedd cancel"):
        assert f"{command} {run.id}" in done.stdout
    wait_until_training(run)
    assert desk.sedd("cancel", run.id).returncode == 0
    assert not find_members(run)
    assert any(run.checkpoints.iterdir()), "cancelling saves"


def test_a_run_in_the_background_is_not_trained_in_the_foreground_too(desk: Desk) -> None:
    assert desk.sedd("submit", desk.endless, "--no-preflight").returncode == 0
    run = only_run(desk)
    wait_until_training(run)
    second = desk.sedd("train", run.id)
    assert desk.sedd("cancel", run.id).returncode == 0
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr.startswith(f"error: run {run.id} is running, in the background or as a job\nhint: ")


def test_ctrl_c_in_follow_leaves_the_run_going_and_exits_130(desk: Desk) -> None:
    process = subprocess.Popen(
        desk.command("submit", desk.endless, "--no-preflight", "--follow"),
        cwd=desk.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    assert wait_until(lambda: bool(list_runs(desk.runs)), timeout_s=120)
    run = only_run(desk)
    wait_until_training(run)
    os.killpg(process.pid, signal.SIGINT)  # what a terminal does at Ctrl-C: to the whole foreground group
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 130, output
    assert "Traceback" not in output
    assert "the runs continue" in output
    size = run.metrics.stat().st_size
    assert wait_until(lambda: run.metrics.stat().st_size > size, timeout_s=120), "the run must go on"
    desk.sedd("cancel", run.id)


def test_ctrl_c_before_anything_is_submitted_says_so(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*arguments: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("sedd.cli.submit.LoginChecks", lambda **options: interrupt)
    monkeypatch.setenv("SEDD_RUNS", str(desk.runs))
    call("submit", desk.folder / desk.spec)
    assert capsys.readouterr().err == "interrupted: nothing was submitted\n"
    assert list_runs(desk.runs) == []


def test_of_two_submissions_at_the_same_instant_one_starts_and_the_other_watches_it(desk: Desk) -> None:
    command = desk.command("submit", desk.spec, "--no-preflight", "--wait", "--json")
    both = [
        subprocess.Popen(command, cwd=desk.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=300) for process in both]
    assert [process.returncode for process in both] == [0, 0], answers
    assert {json.loads(out)["runs"][0]["id"] for out, _ in answers} == {only_run(desk).id}
    assert sum("was submitted before" in err for _, err in answers) == 1


def test_waiting_ends_with_the_reason_in_one_line(desk: Desk) -> None:
    changes = ["training.learning_rate=1e30", "training.max_bad_steps=0", "retry.crashes=0"]
    options = [word for change in changes for word in ("--set", change)]
    done = desk.sedd("submit", desk.spec, "--no-preflight", "--wait", *options)
    assert done.returncode == 1
    run = only_run(desk)
    (line,) = [line for line in done.stderr.splitlines() if run.id in line]
    assert line.startswith(f"tiny/{run.id}: gave up after a crash: loss or gradient")
    log = Path(line.partition("; log ")[2])
    assert log.parent == run.logs
    assert "not finite" in log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["submit", "jobs/tinny.yaml"], 2, "did you mean 'jobs/tiny.yaml'"),
        (["submit", "jobs/tiny.yaml", "--set", "training.stepps=4"], 2, "steps"),
        (["submit", "jobs/tiny.yaml", "--cluster", "nowhere.yaml"], 2, "nowhere.yaml"),
        (["submit", "jobs/tiny.yaml", "--follow", "--json"], 2, "--wait --json"),
        (["submit", "jobs/tiny.yaml", "--set", "resources.nodes=2"], 2, "one node"),
        (["submit", "jobs/tiny.yaml", "--set", "data.store=/nowhere.store"], 1, "/nowhere.store"),
        (["cancel", "nothing"], 2, "no run 'nothing'"),
        (["requeue", "nothing"], 2, "no run 'nothing'"),
    ],
)
def test_a_mistake_is_told_in_words_with_the_right_exit_code_and_makes_nothing(
    desk: Desk, arguments: list[str], code: int, said: str
) -> None:
    done = sedd_here(*arguments, runs=desk.runs, cwd=desk.folder)
    assert done.returncode == code, done.stderr
    assert said in (done.stdout + done.stderr).replace("\n", " ")
    assert "Traceback" not in done.stderr
    assert not list_runs(desk.runs)


@pytest.mark.parametrize(
    ("command", "is_plan"),
    [(("submit",), False), (("submit", "--no-preflight"), False), (("train",), False), (("submit",), True)],
)
def test_adapters_alone_are_no_start_of_a_training_which_is_told_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...], is_plan: bool
) -> None:
    monkeypatch.setenv("SEDD_RUNS", str(tmp_path / "runs"))
    write_adapters_folder(tmp_path / "adapters")
    spec, plan = tmp_path / "tuned.yaml", tmp_path / "plan.yaml"
    spec.write_text(
        SPEC.format(store=tmp_path / "no.store", steps=6).replace("  steps:", "  init: adapters\n  steps:", 1)
    )
    plan.write_text("name: tuning\nstages: {tune: {spec: tuned.yaml}}\n")
    with pytest.raises(UsageError, match="adapters, which holds adapters alone") as told:
        call(*command, plan if is_plan else spec)
    assert "`sedd export family/one -o FOLDER`" in (told.value.hint or "")
    assert not list_runs(tmp_path / "runs")


def test_a_failed_preflight_is_one_json_document_too(desk: Desk) -> None:
    done = desk.sedd("submit", desk.spec, "--set", "data.store=/nowhere.store", "--json")
    assert done.returncode == 1
    told = json.loads(done.stdout)
    assert told["runs"] == []
    assert "FAIL" in {finding["status"] for finding in told["findings"]}


def test_a_dry_run_prints_the_batch_script_and_touches_nothing(desk: Desk) -> None:
    profile = desk.folder / "site.yaml"
    profile.write_text("executor: slurm\npartition: gpu\n")
    before = sorted(desk.folder.rglob("*"))
    done = desk.sedd(
        "submit", desk.spec, "--cluster", profile, "--dry-run", "--set", "resources.gpus_per_node=1"
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("#!/bin/bash\n")
    assert "#SBATCH --gres=gpu:1" in done.stdout
    local = desk.sedd("submit", desk.spec, "--dry-run")
    assert "on this machine" in local.stdout
    assert sorted(desk.folder.rglob("*")) == before


def test_a_spec_that_is_named_twice_is_submitted_once(desk: Desk) -> None:
    again = desk.spec.with_name("again.yaml")
    again.write_bytes(desk.spec.read_bytes())
    done = desk.sedd("submit", desk.spec, desk.spec, again, "--dry-run")
    assert (done.returncode, done.stdout.count("# 1 run")) == (0, 1), done.stderr
    notes = [line for line in done.stderr.splitlines() if line.startswith("note: ")]
    assert notes == [
        f"note: {spec} asks for the same as {desk.spec}, which is submitted once"
        for spec in (desk.spec, again)
    ]


def test_a_sweep_in_parts_says_how_many_wait_and_the_same_command_goes_on(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = fake_slurm.install(tmp_path / "commands")
    monkeypatch.setenv("PATH", f"{slurm}:{os.environ['PATH']}")
    (slurm / "limit").write_text("3")
    profile = desk.folder / "site.yaml"
    profile.write_text("executor: slurm\npartition: gpu\n")
    desk.spec.write_text(desk.spec.read_text() + "sweep: {grid: {seed: [0, 1, 2, 3, 4]}}\n")
    command = ("submit", desk.spec, "--cluster", profile, "--no-preflight")

    first = desk.sedd(*command)
    assert (first.returncode, first.stderr) == (0, "")
    assert (
        "tiny: 3 of 5 submitted, 2 wait: the site takes no more now (AssocMaxSubmitJobLimit)" in first.stdout
    )
    assert "the same command submits the rest" in first.stdout

    second = desk.sedd(*command)
    assert second.returncode == 1
    assert second.stderr.startswith("error: 3 of 5 submitted, 2 wait")
    assert "not submitted" in desk.sedd("status", "--all").stdout

    (slurm / "limit").unlink()
    third = desk.sedd(*command, "--json")
    assert third.returncode == 0, third.stderr
    told = json.loads(third.stdout)
    assert len({run["job_id"] for run in told["runs"]}) == 5
    assert "waiting" not in told
    fourth = desk.sedd(*command)
    assert fourth.returncode == 1
    assert "5 of these 5 runs are submitted already" in fourth.stderr
    assert desk.sedd(*command, "--again").returncode == 0, "the old name of --resubmit"


def test_a_hanging_sbatch_is_told_and_after_ctrl_c_the_same_command_submits_the_rest(
    desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slurm = fake_slurm.install(tmp_path / "commands")
    monkeypatch.setenv("PATH", f"{slurm}:{os.environ['PATH']}")
    (slurm / "then").write_text("exec sleep 120")
    profile = desk.folder / "site.yaml"
    profile.write_text("executor: slurm\npartition: gpu\n")
    command = ("submit", desk.spec, "--cluster", profile, "--no-preflight")
    with subprocess.Popen(
        desk.command(*command),
        cwd=desk.folder,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        assert line.startswith("sbatch has not answered yet; waiting for it, up to 10 minutes. Ctrl-C ends")
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == 130
    (slurm / "then").unlink()
    done = desk.sedd(*command)
    assert done.returncode == 0, done.stderr
    assert only_run(desk)
