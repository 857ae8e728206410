"""Run folders of a submission: complete when it succeeds, gone when it fails."""

import datetime as dt
import json
import os
import pickle
import re
import shlex
import stat
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sedd.cluster.profile import SlurmProfile
from sedd.errors import ClusterError, RunError, SeddError, SpecError
from sedd.launch import submit_local as submit_local_module
from sedd.launch.freeze import imported_package
from sedd.launch.local_processes import Role, find_members
from sedd.launch.make_runs import make_runs
from sedd.launch.submit import render, resume, submit
from sedd.launch.submitted import find_unfinished
from sedd.rundir.events import read_events
from sedd.rundir.layout import read_manifest
from sedd.spec.load import load_resolved
from tests.launch.conftest import LocalRuns, order_for, small_experiment, wait_for_end, wait_for_steps

NOW = dt.datetime(2026, 11, 22, 12, tzinfo=dt.UTC)
SLURM = SlurmProfile(executor="slurm", partition="gpu")


@pytest.fixture
def sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for SLURM's commands: counts its jobs from 100; fails when `refuse` exists beside it."""
    folder = tmp_path / "slurm commands"
    folder.mkdir()
    script = f"""#!/bin/bash
cd '{folder}'
[ "$1" = --test-only ] && exit 0
env > environment
cp "$1" script-$(ls script-* 2>/dev/null | wc -l).sh
[ -e refuse ] && {{ echo "sbatch: error: Batch job submission failed: Invalid qos" >&2; exit 1; }}
[ -e allow-one ] && mv allow-one refuse
echo "Submitted batch job $((99 + $(ls script-* | wc -l)))"
"""
    scontrol = "#!/bin/bash\necho 'SLURM_VERSION = 22.05.8'; echo 'MaxArraySize = 3'\n"
    for name, text in (("sbatch", script), ("srun", "#!/bin/bash\n"), ("scontrol", scontrol)):
        (folder / name).write_text(text)
        (folder / name).chmod((folder / name).stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def test_a_run_folder_is_complete_and_its_spec_reads_back_equal(tmp_path: Path) -> None:
    experiment = small_experiment(seed=7)
    run = make_runs(order_for(experiment, runs=tmp_path), now=NOW, made=[]).runs[0]
    assert load_resolved(run.spec) == experiment
    manifest = read_manifest(run)
    assert manifest["spec_hash"] == experiment.hash()
    assert manifest["id"] == run.id
    assert re.fullmatch(r"20261122-120000-[0-9a-f]{8}", run.id)
    assert (manifest["steps"], manifest["ranks"], manifest["gpus"]) == (40, 1, 0)
    assert manifest["executor"] == "local"
    assert (run.code / "sedd" / "launch" / "submit.py").is_file()


def test_one_job_is_one_pickle_that_holds_one_path(sbatch: Path, tmp_path: Path) -> None:
    run = submit(order_for(small_experiment(), runs=tmp_path / "runs", profile=SLURM), now=NOW).runs[0]
    (path,) = run.submitit.glob("*.pkl")
    assert path.name == "100_submitted.pkl"
    job = pickle.loads(path.read_bytes())
    assert vars(job.function) == {"path": str(run.path)}
    assert (job.args, job.kwargs) == ((), {})
    submitted = read_events(run.events)[-1]
    assert (submitted.event, submitted.get("job_id"), submitted.get("executor")) == (
        "submitted",
        "100",
        "slurm",
    )


def test_no_key_of_the_environment_reaches_the_run_folder(
    sbatch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "0123456789secret")
    run = submit(order_for(small_experiment(), runs=tmp_path / "runs", profile=SLURM), now=NOW).runs[0]
    for path in run.path.rglob("*"):
        assert not path.is_file() or b"0123456789secret" not in path.read_bytes(), path


def test_a_sweep_becomes_arrays_below_the_sites_limit(sbatch: Path, tmp_path: Path) -> None:
    experiments = [small_experiment(seed=n) for n in range(7)]
    runs = submit(order_for(*experiments, runs=tmp_path / "runs", profile=SLURM, parallel=4), now=NOW).runs
    ids = [read_events(run.events)[-1].get("job_id") for run in runs]
    assert ids == ["100_0", "100_1", "100_2", "101_0", "101_1", "101_2", "102"]
    assert "--array=0-2%1" in (sbatch / "script-0.sh").read_text()
    assert len({run.code.resolve() for run in runs}) == 1
    sweep = {read_manifest(run)["sweep"] for run in runs}
    assert len(sweep) == 1
    assert [read_manifest(run)["point"] for run in runs] == [{"seed": n} for n in range(7)]


def test_points_that_ask_for_other_resources_get_an_array_of_their_own(sbatch: Path, tmp_path: Path) -> None:
    sizes = [small_experiment(resources={"gpus_per_node": n, "memory": "1GiB"}) for n in (1, 2, 1)]
    runs = submit(order_for(*sizes, runs=tmp_path / "runs", profile=SLURM, parallel=2), now=NOW).runs
    assert [read_events(run.events)[-1].get("job_id") for run in runs] == ["100_0", "101", "100_1"]
    assert "--array=0-1%1" in (sbatch / "script-0.sh").read_text(), "the sweep's limit is for both together"


def test_a_refused_submission_leaves_nothing_and_says_why_in_one_line(sbatch: Path, tmp_path: Path) -> None:
    (sbatch / "refuse").touch()
    runs = tmp_path / "runs"
    for experiments in ([small_experiment()], [small_experiment(seed=n) for n in range(4)]):
        with pytest.raises(ClusterError, match="Invalid qos") as refusal:
            submit(order_for(*experiments, runs=runs, profile=SLURM), now=NOW)
        assert "\n" not in refusal.value.message
        assert not [path for path in runs.rglob("*") if path.is_file()]


def test_when_a_later_array_is_refused_the_rest_waits_and_is_submitted_by_the_same_order(
    sbatch: Path, tmp_path: Path
) -> None:
    (sbatch / "allow-one").touch()
    order = order_for(*[small_experiment(seed=n) for n in range(5)], runs=tmp_path / "runs", profile=SLURM)
    first = submit(order, now=NOW)
    assert str(first) == "3 of 5 submitted, 2 wait: sbatch: Batch job submission failed: Invalid qos"
    assert isinstance(first.stopped_by, ClusterError)
    (sbatch / "refuse").unlink()
    unfinished = find_unfinished(order.request.experiments, order.runs)
    assert unfinished is not None
    second = resume(order, unfinished, now=NOW)
    assert (second.count, str(second)) == (2, "5 of 5 submitted")
    assert find_unfinished(order.request.experiments, order.runs) is None
    assert second.runs == first.runs
    submissions = [[e for e in read_events(run.events) if e.event == "submitted"] for run in first.runs]
    assert [len(events) for events in submissions] == [1] * 5
    assert len({run.code.resolve() for run in second.runs}) == 1


def test_a_machine_without_slurm_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ClusterError, match="sbatch: command not found"):
        submit(order_for(small_experiment(), runs=tmp_path, profile=SLURM), now=NOW)
    assert not list(tmp_path.rglob("*.json"))


def test_a_local_run_that_cannot_start_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submit_local_module.sys, "executable", "/bin/false")
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(RunError, match="cannot start"):
        submit(order_for(small_experiment(), runs=tmp_path), now=NOW)
    assert not list(tmp_path.rglob("*.json"))


def test_what_cannot_run_here_makes_no_folder(tmp_path: Path) -> None:
    two_nodes = small_experiment(resources={"nodes": 2, "gpus_per_node": 1, "memory": "1GiB"})
    keyed = SlurmProfile(executor="slurm", setup=["export HF_TOKEN=x"])
    for order in (
        order_for(two_nodes, runs=tmp_path),
        order_for(small_experiment(), runs=tmp_path, profile=keyed),
    ):
        with pytest.raises(SpecError):
            submit(order, now=NOW)
    assert not list(tmp_path.iterdir())


def test_a_dry_run_shows_the_script_that_would_be_submitted_and_touches_nothing(
    sbatch: Path, tmp_path: Path
) -> None:
    order = order_for(small_experiment(), runs=tmp_path / "runs", profile=SLURM)
    shown = render(order, now=NOW)
    assert not (tmp_path / "runs").exists()
    submit(order, now=NOW)
    submitted = re.sub(r"token=[0-9a-f]{16}", "token=" + 16 * "0", (sbatch / "script-0.sh").read_text())
    assert shown == submitted


def test_the_local_command_that_a_dry_run_shows_can_be_typed(tmp_path: Path) -> None:
    command = render(order_for(small_experiment(), runs=tmp_path / "my runs"), now=NOW).splitlines()[1]
    path, *words = shlex.split(command)
    assert path.startswith(f"PYTHONPATH={tmp_path}/my runs/small/")
    assert words[:3] == ["python", "-m", "sedd.launch.submit_local"]
    assert path == f"PYTHONPATH={words[3]}/code"


def test_sbatch_and_the_job_get_nothing_that_would_overrule_the_profile(
    sbatch: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = (
        *("SBATCH_PARTITION", "SBATCH_EXPORT", "SLURM_EXPORT_ENV", "SLURM_MEM_PER_CPU", "SLURM_CLUSTERS"),
        *("SLURM_ARRAY_JOB_ID", "CUDA_VISIBLE_DEVICES", "WANDB_RUN_ID", "RANK", "SUBMITIT_PREEMPT_SIGNAL"),
    )
    for name in hostile:
        monkeypatch.setenv(name, "NONE")
    for name in ("SLURM_CONF", "WANDB_API_KEY"):
        monkeypatch.setenv(name, "kept")
    submit(order_for(small_experiment(), runs=tmp_path / "runs", profile=SLURM), now=NOW)
    seen = dict(
        line.split("=", 1) for line in (sbatch / "environment").read_text().splitlines() if "=" in line
    )
    assert not set(hostile) & set(seen)
    assert (seen["SLURM_CONF"], seen["WANDB_API_KEY"]) == ("kept", "kept")
    assert os.environ["SBATCH_PARTITION"] == "NONE"


def test_the_signal_is_ours_whatever_submitit_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("submitit.slurm.slurm.SlurmJobEnvironment.USR_SIG", "USR1")
    shown = render(order_for(small_experiment(), runs=tmp_path, profile=SLURM), now=NOW)
    assert re.findall("--signal=(.*)", shown) == ["USR2@120"]


@pytest.mark.parametrize(
    "greeting",
    [
        "Checking limits: this is job 3 of at most 50 ...OK",
        "Submitted batch job 7 is the newest of project x",
    ],
)
def test_the_job_id_is_in_sbatchs_own_line_whatever_a_site_prints_around_it(
    sbatch: Path, tmp_path: Path, greeting: str
) -> None:
    text = (sbatch / "sbatch").read_text().splitlines()
    (sbatch / "sbatch").write_text(
        "\n".join([text[0], f"echo '{greeting}'", *text[1:], "echo 'Have a job 9 day'"])
    )
    (run,) = submit(order_for(small_experiment(), runs=tmp_path / "runs", profile=SLURM), now=NOW).runs
    assert read_events(run.events)[-1].get("job_id") == "100"
    assert (run.submitit / "100_submitted.pkl").exists()


def test_an_answer_without_a_job_id_is_an_error_and_no_guess(sbatch: Path, tmp_path: Path) -> None:
    (sbatch / "sbatch").write_text("#!/bin/bash\necho 'job 3 is in the queue'\n")
    with pytest.raises(ClusterError, match="without printing its id; its last line is: job 3 is") as caught:
        submit(order_for(small_experiment(), runs=tmp_path / "runs", profile=SLURM), now=NOW)
    assert "squeue --me" in str(caught.value.hint)


def test_a_local_job_has_the_card_that_was_named_and_nothing_of_another_run(
    local: LocalRuns, monkeypatch: pytest.MonkeyPatch
) -> None:
    hostile = {
        "WANDB_RUN_ID": "x",
        "WANDB_SWEEP_ID": "y",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "ROLE_RANK": "7",
    }
    for name, value in hostile.items() | {("CUDA_VISIBLE_DEVICES", "GPU-8a1e,GPU-1f"), ("WORLD_SIZE", "8")}:
        monkeypatch.setenv(name, value)
    run = local.start_one(small_experiment(resources={"gpus_per_node": 1, "memory": "1GiB"}), plan="endless")
    wait_for_steps(run, 1)
    (training,) = [m for m in find_members(run) if m.role is Role.TRAINING]
    pairs = Path(f"/proc/{training.process.pid}/environ").read_text().split("\0")
    seen = dict(pair.split("=", 1) for pair in pairs if pair)
    assert (seen["CUDA_VISIBLE_DEVICES"], seen["WORLD_SIZE"]) == ("GPU-8a1e", "1")
    assert not hostile.keys() & seen.keys()


def test_the_job_imports_the_frozen_code_from_any_folder(
    local: LocalRuns, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `sedd.py` or `jobs.py` in the user's working folder must not get in front."""
    trap = tmp_path / "work"
    trap.mkdir()
    for name in ("sedd.py", "submitit.py", "jobs.py", "typing.py"):
        (trap / name).write_text("raise SystemExit('the wrong module')\n")
    monkeypatch.chdir(trap)
    run = local.start_one()
    assert wait_for_end(run).event == "completed"
    assert imported_package() != (run.code / "sedd").resolve()


def test_manifests_are_json_that_other_tools_can_read(tmp_path: Path) -> None:
    order = replace(order_for(small_experiment(), runs=tmp_path), first_batches=["ab4ad8ab85b2bcea"])
    run = make_runs(order, now=NOW, made=[]).runs[0]
    manifest = json.loads(run.manifest.read_text())
    assert manifest["first_batch"] == "ab4ad8ab85b2bcea"
    needed = {
        "format",
        "name",
        "id",
        "task",
        "spec_hash",
        "point",
        "sweep",
        "parallel",
        "steps",
        "ranks",
        "gpus",
        "executor",
    }
    assert (
        needed
        | {
            "after",
            "parent",
            "profile",
            "parameters",
            "halving",
            "versions",
            "git",
            "code_hash",
            "created",
            "first_batch",
        }
        == manifest.keys()
    )


def test_errors_of_a_submission_are_the_users_kind(tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("")
    with pytest.raises(SeddError):
        submit(order_for(small_experiment(), runs=blocked), now=NOW)
