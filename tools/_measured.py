"""A chapter of the data benchmarks: a command's time, and the memory that all its processes hold together."""

import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

LOOK_S = 0.1


@dataclass(frozen=True)
class Measured:
    """`peak_mb`: of all processes at one moment, a page that several share counted once (PSS)."""

    seconds: float
    peak_mb: float
    processes: int
    """The most at one moment."""
    output: str


def measured(command: Sequence[str]) -> Measured:
    """Run a command to its end and look at its processes ten times a second.

    Raises:
        CalledProcessError: it has failed.
    """
    start = time.perf_counter()
    peak_kb = processes = 0
    with tempfile.TemporaryFile("w+") as said, subprocess.Popen(command, stdout=said) as process:
        while process.poll() is None:
            members = family(process.pid)
            processes = max(processes, len(members))
            peak_kb = max(peak_kb, sum(map(proportional_kb, members)))
            time.sleep(LOOK_S)
        seconds = time.perf_counter() - start
        said.seek(0)
        output = said.read()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Measured(seconds, peak_kb / 1e3, processes, output)


def family(pid: int) -> list[int]:
    """A process and its children."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(member for child in children for member in family(int(child)))]


def proportional_kb(pid: int) -> int:
    """KiB of a process; a page that n processes map counts as 1/n."""
    try:
        return int(Path(f"/proc/{pid}/smaps_rollup").read_text().split("Pss:")[1].split()[0])
    except (OSError, IndexError):  # it has ended
        return 0
