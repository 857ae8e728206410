"""The reason why a job died before our first line, found in what it printed: texts of real jobs on 22.05."""

from pathlib import Path

import pytest

from sedd.rundir.job_output import find_job_output, telling_line
from sedd.rundir.layout import RunDir, create_run

WRONG_PYTHON = """\
/var/spool/v100-1/job00005/slurm_script: line 30: conda: command not found
setup: line 1 failed with exit code 127
/usr/bin/python3: Error while finding module specification for 'submitit.core._submit' \
(ModuleNotFoundError: No module named 'submitit')
srun: error: v100-1: task 0: Exited with exit code 1
srun: launch/slurm: _step_signal: Terminating StepId=5.0
Traceback (most recent call last):
  File "<frozen runpy>", line 198, in _run_module_as_main
ModuleNotFoundError: No module named 'pydantic'
"""
NO_CONDA = "/var/spool/v100-1/job00005/slurm_script: line 30: conda: command not found\n"
FATAL = "Loading modules\nsrun: fatal: SLURM_MEM_PER_CPU and SLURM_MEM_PER_NODE are mutually exclusive.\n"
CANCELLED = "slurmstepd: error: *** JOB 7 ON v100-1 CANCELLED AT 2026-11-29T09:06:20 DUE TO TIME LIMIT ***\n"


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (WRONG_PYTHON, "No module named 'submitit'"),
        (NO_CONDA, "conda: command not found"),
        (
            FATAL,
            "srun: fatal: SLURM_MEM_PER_CPU and SLURM_MEM_PER_NODE are mutually exclusive.",
        ),
        (CANCELLED, CANCELLED.strip()),
        ("Killed\n" + CANCELLED, "Killed"),
        ("\n\n", ""),
        ("x" * 100_000 + "\nthe last\n", "the last"),
    ],
    ids=["wrong python", "no conda", "srun's own", "slurmstepd alone", "before slurmstepd", "empty", "long"],
)
def test_the_telling_line_is_the_last_before_slurm_speaks_of_the_end(
    text: str, line: str, tmp_path: Path
) -> None:
    path = tmp_path / "5_0_log.out"
    path.write_text(text)
    assert telling_line(path) == line


def test_a_missing_file_tells_nothing(tmp_path: Path) -> None:
    assert telling_line(tmp_path / "none") == ""


def test_the_output_of_a_point_lies_with_its_sweep_until_it_is_submitted_alone(tmp_path: Path) -> None:
    run: RunDir = create_run(tmp_path, "small", "20261122-080000-aaaaaaaa", "name: small\n")
    shared = tmp_path / "small" / "sweep-1" / "submitit"
    shared.mkdir(parents=True)
    (shared / "8_1_0_log.out").touch()
    (run.submitit / "9_0_log.out").touch()
    assert find_job_output(run, "8_1", sweep="sweep-1") == shared / "8_1_0_log.out"
    assert find_job_output(run, "9", sweep="sweep-1") == run.submitit / "9_0_log.out"
    assert find_job_output(run, "8_1", sweep=None) is None
    assert find_job_output(run, "", sweep=None) is None
