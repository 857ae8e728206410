import sys

import pytest

from sedd import waiting
from sedd.cluster.command import (
    SlurmMissingError,
    SlurmUnreachableError,
    call,
    clean_environment,
    failure,
    run,
)
from sedd.errors import ClusterError
from sedd.waiting import slow_waits_told


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_output_of_a_command_that_succeeds() -> None:
    assert run(python("print('a b')")) == "a b\n"
    assert call(python("import sys; print('x', file=sys.stderr)")).stderr == "x\n"


def test_standard_input_is_what_is_given_and_else_empty() -> None:
    echo = python("import sys; print(repr(sys.stdin.read()))")
    assert run(echo, stdin="#!/bin/sh") == "'#!/bin/sh'\n"
    assert run(echo) == "''\n"


def test_a_missing_command_is_unreachable_with_a_hint() -> None:
    with pytest.raises(SlurmUnreachableError, match="squeue-of-nowhere: command not found") as caught:
        run(["squeue-of-nowhere"])
    assert caught.value.hint


def test_a_slow_command_is_unreachable_and_never_a_hang() -> None:
    with pytest.raises(SlurmUnreachableError, match=r"did not answer within 0\.2 s"):
        run(python("import time; time.sleep(60)"), timeout_s=0.2)


def test_a_command_that_is_waited_for_long_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "SLOW_S", 0.2)
    told: list[str] = []
    with slow_waits_told(told.append):
        run(python("import time; time.sleep(1)"), timeout_s=600.0)
        run(python("pass"), timeout_s=600.0)
    run(python("import time; time.sleep(0.5)"))
    assert told == [f"{sys.executable} has not answered yet; waiting for it, up to 10 minutes"]


def test_a_failed_command_says_its_first_line_once() -> None:
    code = "import sys; print('sbatch: error: invalid partition\\nmore', file=sys.stderr); sys.exit(1)"
    with pytest.raises(ClusterError, match=r": invalid partition$") as caught:
        run(python(code))
    assert not isinstance(caught.value, SlurmUnreachableError)


def test_a_controller_that_is_down_is_unreachable_wherever_the_line_stands() -> None:
    said = "sbatch: error: retrying\\nsbatch: error: Unable to contact slurm controller (connect failure)"
    with pytest.raises(SlurmUnreachableError, match="Unable to contact slurm controller"):
        run(python(f"import sys; print('{said}', file=sys.stderr); sys.exit(1)"))


def test_a_machine_of_no_cluster_is_told_where_to_go_and_not_asked_again() -> None:
    error = failure(["sbatch", "job.sh"], 1, "sbatch: fatal: Could not establish a configuration source")
    assert isinstance(error, SlurmMissingError)
    assert "login node" in (error.hint or "")


def test_a_greeting_is_not_taken_for_the_reason() -> None:
    said = r"*** Welcome: connection refused is no error ***\nsbatch: error: Batch job submission failed: Invalid qos"
    error = failure(["sbatch", "job.sh"], 1, said.replace(r"\n", "\n"))
    assert error.message == "sbatch job.sh: Batch job submission failed: Invalid qos"
    assert not isinstance(error, SlurmUnreachableError)


def test_a_reason_without_the_commands_name_is_taken_as_it_is() -> None:
    error = failure(["scontrol", "requeue", "9"], 1, "Invalid job id specified for job 9\n")
    assert error.message == "scontrol requeue 9: Invalid job id specified for job 9"


def test_bytes_that_are_no_text_are_replaced() -> None:
    assert run(python(r"import sys; sys.stdout.buffer.write(b'caf\xc3')")) == "caf�"


def test_a_users_own_formats_do_not_reach_the_commands() -> None:
    user = {"SQUEUE_FORMAT": "%i", "SACCT_FORMAT": "jobid", "SLURM_TIME_FORMAT": "relative", "PATH": "/bin"}
    cleaned = clean_environment(user | {"SLURM_CONF": "/etc/slurm.conf", "SBATCH_ACCOUNT": "mine"})
    assert "SQUEUE_FORMAT" not in cleaned
    assert "SACCT_FORMAT" not in cleaned
    assert cleaned["SLURM_TIME_FORMAT"] == "%s"
    assert (cleaned["PATH"], cleaned["SLURM_CONF"]) == ("/bin", "/etc/slurm.conf")
    assert "SBATCH_ACCOUNT" not in cleaned  # `sbatch --test-only` would ask for another job than we submit
