"""Guarding processes: signals noted, commands protected, nothing left behind."""

import signal
import subprocess
import sys

import pytest

from sedd.job import processes
from sedd.job.processes import end_processes, signals_held


def test_commands_started_while_signals_are_held_survive_them() -> None:
    command = [
        sys.executable,
        "-c",
        "import os, signal; os.kill(os.getpid(), signal.SIGTERM); print('alive')",
    ]
    with signals_held():
        held = subprocess.run(command, capture_output=True, text=True, check=False)
    bare = subprocess.run(command, capture_output=True, text=True, check=False)
    assert held.stdout == "alive\n"
    assert bare.returncode == -signal.SIGTERM


HOLDS = """
import os, signal
from sedd.job.processes import end_processes, signals_held
signal.signal(signal.SIGUSR2, lambda number, frame: print("came"))
with signals_held():
    os.kill(os.getpid(), signal.SIGUSR2)
    print("held")
"""


def test_held_signals_arrive_afterwards() -> None:
    done = subprocess.run([sys.executable, "-c", HOLDS], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["held", "came"]


def test_a_training_that_another_attempt_has_replaced_gets_no_time_to_finish() -> None:
    asleep = subprocess.Popen(["sleep", "600"])
    end_processes({0: asleep}, grace_s=600, is_unwanted=lambda: True)
    assert asleep.returncode == -signal.SIGKILL


def test_a_training_that_not_even_sigkill_ends_is_not_waited_for_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The job that continues the run waits for the end of this one."""

    class WaitsForDisk(subprocess.Popen[bytes]):
        def kill(self) -> None:
            """As SIGKILL to a process that waits for a dead disk."""

    monkeypatch.setattr(processes, "DIE_S", 0.1)
    stuck = WaitsForDisk(["sleep", "20"])
    end_processes({0: stuck}, grace_s=0, is_unwanted=lambda: False)
    assert stuck.poll() is None
    stuck.terminate()
    stuck.wait()
