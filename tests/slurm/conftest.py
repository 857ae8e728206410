"""The real SLURM of slurm/devcluster, brought up once for all tests that ask for it."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from sedd.cluster.command import run
from sedd.cluster.jobs import JobFact
from sedd.cluster.scontrol import query_job
from sedd.cluster.site import query_nodes

SCRIPTS = Path(__file__).parents[2] / "slurm" / "devcluster"
NODES = ("v100-1", "v100-2", "v100-3", "v100-4")
_PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "slurmdbd", "mariadbd")
_ASK_FOR_IT = "to run it: bash tools/test.sh --slurm (as root)"


def why_not() -> str | None:
    """Why this machine cannot, or was not asked to, run tests on a real SLURM; None when it shall."""
    path = f"{os.environ['PATH']}{os.pathsep}/usr/sbin"
    missing = [program for program in _PROGRAMS if not shutil.which(program, path=path)]
    if os.environ.get("SEDD_TEST_SLURM") != "1":
        return f"nobody asked for tests on a real SLURM; {_ASK_FOR_IT}"
    if os.geteuid() != 0:
        return f"a real SLURM needs root; {_ASK_FOR_IT}"
    return f"not installed: {', '.join(missing)}; {_ASK_FOR_IT}" if missing else None


def script(name: str, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run one of the scripts of slurm/devcluster to its end; the caller looks at the exit code."""
    command = ["bash", str(SCRIPTS / name), *map(str, arguments)]
    # A file, not a pipe, would be needed if a daemon kept our standard output open: this proves that none does.
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


@dataclass(frozen=True)
class DevCluster:
    """A running dev cluster; SLURM_CONF points to it."""

    folder: Path

    def submit(self, script: str, *options: str) -> str:
        """Submit a batch script and return its job id. Output goes to `<job id>.out` in the current folder."""
        command = ["sbatch", "--parsable", "--output=%A_%a.out" if _is_array(options) else "--output=%j.out"]
        return run([*command, *options], stdin=f"#!/bin/bash\n{script}\n").strip()

    def wait(self, job_id: str, until: Callable[[JobFact], bool], *, timeout_s: float = 60) -> JobFact:
        """Wait until the job is as it should be, and return it."""
        deadline = time.monotonic() + timeout_s
        job = None
        while time.monotonic() < deadline:
            job = query_job(job_id)
            if job is not None and until(job):
                return job
            time.sleep(0.3)
        raise AssertionError(f"job {job_id} is not as expected after {timeout_s:g} s: {job}")

    def switch(self, what: str, to: str) -> None:
        """Run switch.sh on the cluster."""
        done = script("switch.sh", what, to, self.folder)
        assert done.returncode == 0, done.stderr


def _is_array(options: tuple[str, ...]) -> bool:
    return any(option.startswith("--array") for option in options)


@pytest.fixture(scope="session")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevCluster]:
    if reason := why_not():
        pytest.skip(reason)
    # Not pytest's own folder: sockets need a short path.
    folder = Path("/tmp") / f"sedd-test-{os.getpid()}"
    try:
        done = script("up.sh", "--dbd", "--kill-wait", "10", "--requeue-delay", "20", folder)
        assert done.returncode == 0, f"the dev cluster did not come up: {done.stderr}"
        yield DevCluster(folder)
    finally:
        script("down.sh", folder)


@pytest.fixture
def devcluster(_cluster: DevCluster, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[DevCluster]:
    """The dev cluster, idle, with SLURM_CONF set and an empty folder as the current one."""
    monkeypatch.setenv("SLURM_CONF", str(_cluster.folder / "etc" / "slurm.conf"))
    monkeypatch.chdir(tmp_path)
    yield _cluster
    empty(_cluster)


def empty(cluster: DevCluster) -> None:
    """Cancel all jobs and wait until the nodes are free again."""
    for user in ("root", "nobody"):
        run(["scancel", "--quiet", f"--user={user}"])
        run(["scancel", "--quiet", f"--user={user}", "--signal=KILL"])
    deadline = time.monotonic() + 30
    while run(["squeue", "--noheader"]).strip() and time.monotonic() < deadline:
        time.sleep(0.3)
    # What a test has killed or drained is there for the next one.
    assert script("up.sh", cluster.folder).returncode == 0
    for node in query_nodes():
        if not node.is_usable:
            run(["scontrol", "update", f"NodeName={node.name}", "State=RESUME"])
