"""What a job printed outside its ranks' logs: all there is of one that died before our first line."""

import os
import re
from pathlib import Path

from sedd.rundir.layout import RunDir

_TAIL_BYTES = 8192
_CONSEQUENCE = re.compile(
    r"srun: (error: \S+: tasks? .*: |launch/slurm|Job step|Terminating|forcing|job \d+ (queued|has been))"
    r"|slurmstepd: "
)
"""SLURM's lines about a process that ended: the reason stands before them."""

_MISSING = re.compile(r"No module named '[^']+'")
_SCRIPT = re.compile(r"^\S*slurm_script: (line \d+: )?")


def find_job_output(run: RunDir, job_id: str, *, sweep: str | None) -> Path | None:
    """The output of a run's job; a point of a sweep may have its own folder, or share that of the sweep."""
    if not job_id:
        return None
    folders = [run.submitit, *([run.path.parent / sweep / "submitit"] if sweep else [])]
    paths = (folder / f"{job_id}_0_log.out" for folder in folders)
    return next((path for path in paths if path.exists()), None)


def telling_line(path: Path) -> str:
    """The line of a job's output that says best why it ended, or nothing.

    It is the last one before SLURM reports that a process has ended: what is printed later follows from that.
    """
    try:
        with path.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL_BYTES))
            lines = [line.strip() for line in file.read().decode(errors="replace").splitlines()]
    except OSError:
        return ""
    lines = [line for line in lines if line]
    ends = [number for number, line in enumerate(lines) if _CONSEQUENCE.match(line)]
    before = lines[: ends[0]] if ends else lines
    other = [line for line in lines if not _CONSEQUENCE.match(line)]
    return _essence(next((some[-1] for some in (before, other, lines) if some), ""))


def _essence(line: str) -> str:
    """`conda: command not found` for `/var/spool/…/slurm_script: line 30: conda: command not found`."""
    missing = _MISSING.search(line)
    return missing[0] if missing else _SCRIPT.sub("", line)
