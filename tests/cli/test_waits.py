"""Commands that wait for another one say so, and Ctrl-C ends them."""

import contextlib
import os
import pwd
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from sedd.errors import RunError
from sedd.halving.fellows import read_halving
from sedd.halving.rungs import deciding
from sedd.launch.submitted import one_submission
from sedd.rundir.layout import RunDir
from sedd.rundir.lock import alone, one_action
from tests.halving.test_wake import sweep
from tests.launch.conftest import LocalRuns, local, small_experiment, story, write_events  # noqa: F401

USER = pwd.getpwuid(os.geteuid()).pw_name
PLACE = f"(process {os.getpid()} of {USER} on {socket.gethostname()}, since …)"
HERE = f"`{Path(sys.argv[0]).stem}` {PLACE}"
"""Who holds what this process holds."""
FAR = {"event": "submitted", "executor": "local", "host": "far", "job_id": "far:1:1"}


@contextlib.contextmanager
def begun(local: LocalRuns, *arguments: str) -> Iterator["subprocess.Popen[str]"]:  # noqa: F811
    """A command that has been started, in a process group that Ctrl-C reaches."""
    process = subprocess.Popen(
        [sys.executable, "-m", "sedd", *arguments],
        env=os.environ | {"SEDD_RUNS": str(local.runs)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def submitted_runs(local: LocalRuns, count: int) -> Sequence[RunDir]:  # noqa: F811
    runs = [local.make(small_experiment(seed=n))[0] for n in range(count)]
    for run in runs:
        write_events(run, FAR)
    return runs


def heard_then_interrupted(process: "subprocess.Popen[str]") -> str:
    """What it says while it waits, and after Ctrl-C, which ends it at once."""
    assert process.stderr is not None
    line = process.stderr.readline()
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(10) == 130
    return line + process.stderr.read()


def without_time(text: str) -> str:
    return re.sub(r"since \d\d:\d\d:\d\d UTC", "since …", text)


def test_a_command_says_that_it_waits_for_another_of_the_same_run_and_ctrl_c_ends_it(
    local: LocalRuns,  # noqa: F811
) -> None:
    (run,) = submitted_runs(local, 1)
    commands = (
        ("cancel", run.id),
        ("requeue", run.id),
        ("requeue", run.id, "--walltime", "2h", "--no-preflight"),
        ("extend", run.id, "--steps", "80", "--no-preflight"),
    )
    with one_action(run), contextlib.ExitStack() as stack:
        waiting = [stack.enter_context(begun(local, *command)) for command in commands]
        assert [without_time(heard_then_interrupted(process)) for process in waiting] == [
            f"{HERE} holds {run.path}/.action.lock; waiting for it, up to 150 s. "
            "Ctrl-C ends the waiting; repeated, the same command does what is left.\n"
        ] * len(commands)
    assert story(run) == ["submitted"]


def test_of_several_runs_each_wait_is_told_once_and_one_ctrl_c_ends_all(local: LocalRuns) -> None:  # noqa: F811
    runs = submitted_runs(local, 3)
    with contextlib.ExitStack() as stack:
        for run in runs:
            stack.enter_context(one_action(run))
        process = stack.enter_context(begun(local, "cancel", *(run.id for run in runs)))
        assert process.stderr is not None
        lines = [process.stderr.readline() for _ in runs[1:]] + [heard_then_interrupted(process)]
    expected = [f"{HERE} holds {run.path}/.action.lock" for run in runs]
    assert sorted(without_time(line).split(";")[0] for line in lines) == sorted(expected)
    assert all(line.count("\n") == 1 for line in lines), "nothing is said after Ctrl-C"


def test_after_ctrl_c_cancel_does_not_wait_once_more_for_those_who_decide_in_a_halving_sweep(
    local: LocalRuns,  # noqa: F811
) -> None:
    first, *_ = runs = sweep(local)
    halving = read_halving(first)
    assert halving is not None
    with (
        deciding(first, halving),
        one_action(first),
        begun(local, "cancel", *(r.id for r in runs)) as process,
    ):
        assert f"holds {first.path}/.action.lock" in heard_then_interrupted(process)


def test_a_submission_says_that_it_waits_for_another_of_the_same_name(local: LocalRuns) -> None:  # noqa: F811
    (run,) = submitted_runs(local, 1)
    spec = local.runs / "small.yaml"
    spec.write_text(run.spec.read_text().replace("seed: 0", "seed: 7"))
    with (
        one_submission(["small"], local.runs),
        begun(local, "submit", str(spec), "--no-preflight") as process,
    ):
        assert without_time(heard_then_interrupted(process)).startswith(
            f"{HERE} holds {local.runs}/small/.submit.lock; waiting for it, up to 2 minutes."
        )


def test_what_holds_a_lock_after_its_command_was_killed_is_said(local: LocalRuns, tmp_path: Path) -> None:  # noqa: F811
    """As sbatch does, of a `sedd submit` that was killed."""
    program = """
import subprocess, sys
from pathlib import Path
from sedd.rundir.lock import alone
sys.argv = ["/usr/bin/sedd", "submit", "--set", "secret=1"]
with alone(Path({path!r}), patience_s=1) as handle:
    subprocess.Popen(["sleep", "60"], pass_fds=[handle], stdout=subprocess.DEVNULL)
    print(flush=True)
    sys.stdin.read()
"""
    path = tmp_path / "lock"
    command = [sys.executable, "-c", program.replace("{path!r}", repr(str(path)))]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(RunError) as alive, alone(path, patience_s=0):
            pass
        holder.kill()
        holder.wait()
        with pytest.raises(RunError) as killed, alone(path, patience_s=0):
            pass
        os.killpg(holder.pid, signal.SIGKILL)
    who = f"`sedd submit` (process {holder.pid} of {USER} on {socket.gethostname()}, "
    assert without_time(alive.value.message) == f"{who}since …) still holds {path}"
    ended = "which has ended; a command that it started has it"
    assert without_time(killed.value.message) == f"{who}since …, {ended}) still holds {path}"
    with alone(path, patience_s=5):
        assert path.read_text()
    assert not path.read_text(), "nobody holds it"
