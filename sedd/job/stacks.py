"""Stacks of a training that hangs, written into its log: by py-spy where there is one, else by the training itself."""

import contextlib
import faulthandler
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

SIGNAL = signal.SIGQUIT
"""As other language runtimes have it; neither SLURM nor NCCL sends it."""
_WRITE_S = 1.0
"""For a training to write its stacks."""
_PY_SPY_S = 10.0


def offer_stacks() -> None:
    """Write the Python stacks of all threads to standard error when `SIGNAL` comes, whatever the main thread does."""
    faulthandler.register(SIGNAL, file=sys.stderr.fileno(), all_threads=True, chain=False)


def write_stacks(pids: list[int], why: str, *, log: Path) -> None:
    """Write the stacks of these trainings of this node into their logs, the first one's headed by `why` in `log`."""
    with contextlib.suppress(OSError), log.open("ab", buffering=0) as file:
        file.write(f"=== hang: {why}: the stacks of all threads ===\n".encode())
        if _ask_py_spy(pids, file.fileno()):
            return
    for pid in pids:
        _send(pid, SIGNAL)
        if process_state(pid) == "T":
            _send(pid, signal.SIGCONT)  # a stopped process would write nothing
    time.sleep(_WRITE_S)


def process_state(pid: int) -> str:
    """`R`, `S`, `D`, `T` (stopped), `t` (by a debugger), `Z`; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""


def is_traced(pid: int) -> bool:
    """Whether a debugger holds the process."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return False
    return any(line.startswith("TracerPid:") and line.split()[1] != "0" for line in lines)


def _ask_py_spy(pids: list[int], output: int) -> bool:
    """Whether py-spy has written the stacks of all: it reads memory, and needs no help of the process."""
    if (program := shutil.which("py-spy")) is None:
        return False
    for pid in pids:
        command = [program, "dump", "--nonblocking", "--pid", str(pid)]
        try:
            done = subprocess.run(command, stdout=output, stderr=output, timeout=_PY_SPY_S, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return False
        if done.returncode:
            return False
    return True


def _send(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
