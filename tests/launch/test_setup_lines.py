"""The lines before srun, run by a real bash: failures of `setup` are noticed, and nothing ends the script unseen."""

import subprocess
from pathlib import Path

import pytest

from sedd.cluster.profile import SlurmProfile
from sedd.cluster.setup import ENDED, FAILED, setup_failure
from sedd.errors import RunError
from sedd.launch.setup_lines import require_setup, setup_lines

AFTER = f'echo "srun [${FAILED}]"'


def run_script(tmp_path: Path, *setup: str) -> tuple[str, int]:
    """Standard output and exit code of the lines, a line in the place of srun, and one in that of the last."""
    profile = SlurmProfile(executor="slurm", setup=setup)
    lines = setup_lines(
        profile, code=Path("/the code"), lead_s=30, last_line=f"eval '{AFTER.replace('srun', 'last')}'"
    )
    (tmp_path / "script").write_text("\n".join(["#!/bin/bash", *lines, AFTER, "exit 9"]))
    (tmp_path / "sourced").write_text("false\ntrue\n")
    done = subprocess.run(
        ["bash", "script"], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    return done.stdout, done.returncode


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("false", 1),
        ("no-such-command x", 127),
        ("source /no/such/file", 1),
        ("(exit 4)", 4),
        ("f() { return 3; }; f", 3),
    ],
)
def test_a_line_that_fails_is_told_with_its_number_and_exit_code(
    tmp_path: Path, line: str, code: int
) -> None:
    said, _ = run_script(tmp_path, "true", line, "false")
    assert f"setup: line 2 failed with exit code {code}" in said
    assert f"srun [2 {code}]" in said


@pytest.mark.parametrize(
    "line",
    [
        "true",
        "if false; then true; fi",
        "false || true",
        "source ./sourced",
        "x=$(false) || x=1",
        "bash -c 'kill -TERM $$'",
        "kill -USR2 $$",
    ],
)
def test_what_is_no_failure_is_none(tmp_path: Path, line: str) -> None:
    assert run_script(tmp_path, line)[0].splitlines()[-1] == "srun []"


@pytest.mark.parametrize(
    ("line", "code"),
    [("exit 3", 3), ("exit 0", 0), ("set -u; echo $NOT_SET", 1), ("set -o posix; . /no/such/file", 1)],
)
def test_setup_that_ends_the_script_comes_to_its_last_line(tmp_path: Path, line: str, code: int) -> None:
    said, _ = run_script(tmp_path, "true", line)
    assert "srun" not in said
    assert f"last [0 {code}]" in said


def test_a_failing_line_that_ends_the_script_is_named(tmp_path: Path) -> None:
    said, _ = run_script(tmp_path, "set -euo pipefail", "no-such-command x")
    assert "last [2 127]" in said


def test_options_of_setup_do_not_hold_for_what_follows(tmp_path: Path) -> None:
    said, code = run_script(tmp_path, "set -euo pipefail", "trap 'echo theirs' EXIT")
    assert said == "srun []\ntheirs\n"
    assert code == 9


def test_a_construct_may_spread_over_several_entries(tmp_path: Path) -> None:
    said, _ = run_script(tmp_path, "for x in 1 2; do", "  true", "done", "cat <<END", "text", "END", "false")
    assert "srun [7 1]" in said


def test_the_line_is_quoted_and_ends_the_run_unless_the_profile_lets_it_go_on() -> None:
    setup = ("module load cuda\nmodule load nccl", "conda activate sedd")
    environ = {FAILED: "3 127"}
    strict = SlurmProfile(executor="slurm", setup=setup)
    with pytest.raises(RunError, match=r"line 3 of setup: .* failed with exit code 127: conda activate sedd"):
        require_setup(strict, environ)
    require_setup(strict, {})
    lenient = SlurmProfile(executor="slurm", setup=setup, setup_must_succeed=False)
    require_setup(lenient, environ)
    assert setup_failure(lenient, environ)
    with pytest.raises(RunError, match="ended the batch script with exit code 0"):
        require_setup(lenient, {FAILED: "0 0", ENDED: "1"})
