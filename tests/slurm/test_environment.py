"""What the submitting shell and the profile's `setup` can, and cannot, do to a job of a real SLURM."""

import os
import re
from pathlib import Path

import pytest

from sedd.cluster import sbatch_options
from sedd.cluster.command import run as run_command
from sedd.cluster.sbatch_options import REFUSED, VALID, problem_with
from sedd.cluster.scontrol import query_job
from sedd.rundir.events import read_events
from tests.launch.conftest import small_experiment, story, wait_for_steps
from tests.slurm.conftest import DevCluster
from tests.slurm.test_launch import WHOLE_NODE, Start, job_of, preempt, start, wait_for_word

__all__ = ["start"]
pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

HOSTILE = {
    "SBATCH_PARTITION": "nograce",
    "SBATCH_TIMELIMIT": "1:00",
    "SBATCH_NO_REQUEUE": "1",
    "SBATCH_MEM_PER_NODE": "10G",
    "SBATCH_EXPORT": "NONE",
    "SBATCH_JOB_NAME": "another",
    "SLURM_EXPORT_ENV": "NONE",
    "SRUN_EXPORT_ENV": "NONE",
    "SLURM_MEM_PER_CPU": "100",
    "SLURM_ARRAY_JOB_ID": "1",
    "SLURM_ARRAY_TASK_ID": "1",
    "SLURM_CLUSTER_NAME": "elsewhere",
    "SLURM_EXIT_ERROR": "0",
    "SHELLOPTS": "braceexpand:errexit:hashall:interactive-comments:nounset",
    "SUBMITIT_PREEMPT_SIGNAL": "USR1",
    "RANK": "3",
    "WORLD_SIZE": "8",
    "MASTER_ADDR": "nowhere",
    "TORCHELASTIC_USE_AGENT_STORE": "True",
    "WANDB_RUN_ID": "x",
    "CUDA_VISIBLE_DEVICES": "GPU-1f",
    "PYTHONINSPECT": "1",
    "SQUEUE_STATES": "FAILED",
    "SCANCEL_PARTITION": "nograce",
}
OPTIONS = {"nice": 100, "hint": "nomultithread", "distribution": "cyclic", "wckey": "w", "chdir": "/"}
GREETING = """#!/bin/bash
echo 'Welcome. Submitted batch job 3 is the example of the day; this is job 3 of at most 50'
exec {sbatch} "$@"
"""
SITE_RULES = """#!/bin/bash
exec {sbatch} --time=30 --no-requeue "$@"
"""


def wrap_sbatch(text: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a site's own sbatch before the real one."""
    real = next(p for part in os.environ["PATH"].split(":") if (p := Path(part) / "sbatch").exists())
    (folder / "bin").mkdir()
    (folder / "bin" / "sbatch").write_text(text.format(sbatch=real))
    (folder / "bin" / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")


def test_a_hostile_shell_decides_nothing_about_a_job(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrap_sbatch(GREETING, tmp_path, monkeypatch)
    for name, value in HOSTILE.items():
        monkeypatch.setenv(name, value)
    (run,) = start(setup=["export SLURM_EXPORT_ENV=NONE SLURM_MEM_PER_CPU=7", "set -eu"], **OPTIONS)
    job = query_job(job_of(run))
    assert job is not None
    assert (job.partition, job.name, job.time_limit_s, job.may_requeue) == ("requeue", "small", 86_400, True)
    wait_for_word(run, "completed")
    assert story(run) == ["submitted", "attempt_started", "completed"]
    assert next(e for e in read_events(run.events) if e.event == "submitted").get("cluster") != "elsewhere"


def test_options_that_a_site_adds_to_sbatch_are_told_and_do_not_lose_the_run(
    devcluster: DevCluster, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrap_sbatch(SITE_RULES, tmp_path, monkeypatch)
    (run,) = start(plan="long")
    submitted = next(e for e in read_events(run.events) if e.event == "submitted")
    assert [text.split(",")[0].split(":")[0] for text in submitted.get("changed")] == [
        "the time limit is 30m",
        "it may not be requeued",
    ]
    wait_for_steps(run, 5)
    preempt(devcluster, run)
    wait_for_word(run, "completed")
    assert "requeued:preempted" in story(run)


@pytest.mark.parametrize(
    ("setup", "failure"),
    [
        (["true", "module load no-such-module"], "line 2 of setup: in the profile failed with exit code 127"),
        (["exit 5"], "setup: in the profile ended the batch script with exit code 5"),
    ],
)
def test_a_setup_that_fails_ends_the_run_in_one_attempt_and_says_which_line(
    start: Start, setup: list[str], failure: str
) -> None:
    (run,) = start(small_experiment(resources=WHOLE_NODE), setup=setup)
    wait_for_word(run, "gave_up")
    assert story(run) == ["submitted", "attempt_started", "failed:crashed", "gave_up:crashed"]
    assert failure in run.events.read_text()


def test_every_option_that_sbatch_shows_was_thought_of(devcluster: DevCluster) -> None:
    options = set(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", run_command(["sbatch", "--help"])))
    assert len(options) > 50
    assert options - {"help", "usage", "version"} <= VALID | REFUSED.keys()


def test_an_option_that_only_the_sbatch_at_hand_knows_is_taken(
    devcluster: DevCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a plugin's would be: the table has forgotten one with a value, one without, and one where it may stand."""
    monkeypatch.setattr(sbatch_options, "VALID", VALID - {"reservation", "spread-job", "nice"})
    sbatch_options.shown_by_sbatch.cache_clear()
    assert problem_with("reservation", "proteins") is problem_with("spread-job", True) is None
    assert problem_with("nice", True) is problem_with("nice", 5) is None
    assert "needs a value" in str(problem_with("reservation", True))
    assert "takes no value" in str(problem_with("spread-job", "all"))
    assert "did you mean" in str(problem_with("reservatoin", "proteins"))
    sbatch_options.shown_by_sbatch.cache_clear()
