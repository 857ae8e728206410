"""The place that chaos.py hurts: a dev cluster, a small disk of its own for the runs, and the processes on it."""

import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sedd.cluster.jobs import JobFact
from sedd.cluster.squeue import parse_squeue, query_squeue
from sedd.errors import ClusterError, UsageError
from sedd.launch.local_processes import wait_until
from sedd.rundir.process_name import find_place

SCRIPTS = Path(__file__).resolve().parents[1] / "slurm" / "devcluster"
NODES = ("v100-1", "v100-2", "v100-3", "v100-4")
DISK_MIB = 1024
OPTIONS = ("--kill-wait", "20", "--requeue-delay", "5", "--node-timeout", "10")
"""Of our own dev cluster: nothing waits longer than it must."""


@dataclass(frozen=True, slots=True)
class Site:
    """Where a campaign happens."""

    work: Path
    """The campaign's own folder."""
    cluster: Path
    """The dev cluster's folder."""
    has_own_disk: bool
    """Whether `disk` is a file system of its own, which can be filled without hurting anybody else."""
    other: Path | None = None
    """The folder of another dev cluster, whose users have the same runs folder."""

    @property
    def conf(self) -> Path:
        return self.cluster / "etc" / "slurm.conf"

    @property
    def disk(self) -> Path:
        return self.work / "disk"

    @property
    def runs(self) -> Path:
        return self.disk / "runs"

    @property
    def ballast(self) -> Path:
        return self.disk / "ballast"

    def controller_says(self, job_id: str) -> str:
        """The lines of slurmctld's log that name a job."""
        named = re.compile(rf"JobId={re.escape(job_id)}\b")
        lines = (self.cluster / "log" / "slurmctld.log").read_text(errors="replace").splitlines()
        return "\n".join(line for line in lines if named.search(line))

    def forget_state(self, *, first_job_id: int) -> None:
        """What a stopped slurmctld has saved is gone; it counts its jobs from this number on."""
        for path in (self.cluster / "state").iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != "munge.seed":
                path.unlink()
        lines = [line for line in self.conf.read_text().splitlines() if not line.startswith("FirstJobId=")]
        self.conf.write_text("\n".join([f"FirstJobId={first_job_id}", *lines, ""]))

    def await_saved_state(self) -> None:
        """Wait until slurmctld has saved what it knows now: stopped before that, it loses the newest jobs."""
        state, since = self.cluster / "state" / "job_state", time.time() + 1
        wait_until(lambda: state.exists() and state.stat().st_mtime > since, timeout_s=30)

    def daemon(self, action: str, name: str) -> None:
        """`stop`, `kill` or `start` a daemon of the cluster. Raises: ClusterError."""
        _script("daemon.sh", action, name, str(self.cluster))


@dataclass(frozen=True, slots=True)
class Worker:
    """A living training process."""

    pid: int
    run: Path
    rank: int
    attempt: int
    is_stopped: bool
    """By SIGSTOP: it neither trains nor ends."""


@contextlib.contextmanager
def open_site(slurm_conf: str | None, *, with_other: bool) -> Iterator[Site]:
    """The dev cluster that SLURM_CONF names, or one of our own that is taken down at the end, and a mounted disk.

    `with_other`: beside it another dev cluster.

    Raises:
        UsageError: SLURM_CONF names another cluster: nothing but a dev cluster may be hurt.
        ClusterError: it does not come up.
    """
    with contextlib.ExitStack() as stack:
        work = Path(tempfile.mkdtemp(prefix="sedd-chaos-"))
        stack.callback(_remove, work)
        work.chmod(0o755)  # munge refuses a socket that only root could reach
        if slurm_conf is None:
            cluster = work / "cluster"
            stack.callback(_script, "down.sh", str(cluster))
            _script("up.sh", *OPTIONS, str(cluster))
            os.environ["SLURM_CONF"] = str(cluster / "etc" / "slurm.conf")
        else:
            cluster = Path(slurm_conf).parent.parent
            if not (cluster / ".devcluster").exists():
                raise UsageError(f"{slurm_conf} is not a dev cluster's", hint="unset SLURM_CONF")
        other = work / "other" if with_other else None
        if other is not None:
            stack.callback(_script, "down.sh", str(other))
            _script("up.sh", *OPTIONS, str(other))
        (work / "disk").mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK_MIB}m", "sedd-chaos", str(work / "disk")]
        is_mounted = subprocess.run(mount, check=False, stdout=sys.stderr).returncode == 0
        if is_mounted:
            stack.callback(_unmount, work / "disk")
        yield Site(work=work, cluster=cluster, has_own_disk=is_mounted, other=other)


def jobs() -> dict[str, JobFact]:
    """All jobs of this user by id; empty while SLURM does not answer."""
    try:
        return {job.job_id: job for job in parse_squeue(query_squeue(["root"], timeout_s=5))}
    except ClusterError:
        return {}


def workers(below: Path) -> list[Worker]:
    """The living training processes of runs in a folder."""
    found = []
    for pid, arguments in _processes():
        is_training = "sedd.job.worker" in arguments and arguments[-1].startswith(f"{below}/")
        if is_training and (place := find_place(pid)):
            found.append(Worker(pid, Path(arguments[-1]), place.rank, place.attempt, _is_stopped(pid)))
    return found


def _is_stopped(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
    except OSError:
        return False


def leftovers(below: Path) -> list[str]:
    """Command lines that name the folder: of a campaign that is over there must be none."""
    return [
        f"{pid}: {' '.join(arguments)[:200]}"
        for pid, arguments in _processes()
        if pid != os.getpid() and any(argument.startswith(f"{below}/") for argument in arguments)
    ]


def _processes() -> Iterator[tuple[int, list[str]]]:
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                content = Path(entry.path, "cmdline").read_bytes().decode(errors="replace")
                yield int(entry.name), content.rstrip("\0").split("\0")


def _script(name: str, *arguments: str) -> None:
    command = ["bash", str(SCRIPTS / name), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    if done.returncode:
        raise ClusterError(f"{name} {' '.join(arguments)}: {done.stderr.strip()}")


def _unmount(disk: Path) -> None:
    subprocess.run(["umount", "--lazy", str(disk)], check=False)


def _remove(work: Path) -> None:
    """Nothing below a mount that is still there may be deleted by accident: rm stops at its border."""
    subprocess.run(["rm", "-rf", "--one-file-system", str(work)], check=False, stdout=sys.stderr)
