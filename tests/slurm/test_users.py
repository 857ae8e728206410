"""What a user without privileges types, on a real SLURM that falls silent for a while; with and without slurmdbd."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sedd.cluster.jobs import JobFact
from sedd.cluster.scontrol import query_job
from sedd.cluster.states import JobState
from sedd.launch.local_processes import wait_until
from sedd.rundir.layout import RunDir
from tests.slurm.conftest import DevCluster, empty, script
from tests.tiny import PROTEINS

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
NOBODY = 65534
SPEC = """
name: tiny
data: {{store: "{store}", max_length: 64}}
model: {{hidden: 16, cond: 8, blocks: 1, heads: 2}}
training: {{steps: 1_000_000, residues_per_step: 512, residues_per_gpu: 256, validation: {{residues: 1024}}}}
resources: {{gpus_per_node: 0, cpus_per_process: 1, memory: 1GiB, walltime: 20m}}
tracking: {{wandb: disabled}}
"""


class User:
    """Somebody at a terminal: nobody, with a home of their own and nothing else."""

    def __init__(self, home: Path, python: str, slurm_conf: Path) -> None:
        self.home, self._python = home, python
        self._environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(home),
            "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(_is_packages, sys.path)]),
            "PYTHONDONTWRITEBYTECODE": "1",
            "SLURM_CONF": str(slurm_conf),
            "COLUMNS": "150",
        }

    def runs(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Any Python command, to its end."""
        return subprocess.run([self._python, *arguments], capture_output=True, timeout=240, **self._place())

    def sedd(self, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        return self.runs("-m", "sedd", *map(str, arguments))

    def starts(self, name: str, *arguments: str | Path) -> "Terminal":
        """A command that goes on; what it says goes to a file in the home."""
        said = self.home / name
        command = [self._python, "-m", "sedd", *map(str, arguments)]
        with said.open("w") as output:
            process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, **self._place())
        return Terminal(process, said)

    def _place(self) -> dict[str, object]:
        who = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
        return {"cwd": self.home, "env": self._environment, "text": True} | who


class Terminal:
    """A command that runs, and what it has said so far."""

    def __init__(self, process: "subprocess.Popen[str]", said: Path) -> None:
        self.process, self._said = process, said

    @property
    def text(self) -> str:
        return self._said.read_text()

    def waits_for(self, words: str) -> None:
        assert wait_until(lambda: words in self.text, timeout_s=120), f"no {words!r} in\n{self.text}"

    def ends_with(self, exit_code: int) -> None:
        assert self.process.wait(timeout=300) == exit_code, self.text


def _is_packages(path: str) -> bool:
    return path.endswith(("site-packages", "dist-packages"))


@pytest.fixture
def cluster(
    request: pytest.FixtureRequest, devcluster: DevCluster, monkeypatch: pytest.MonkeyPatch
) -> Iterator[DevCluster]:
    """`slurmdbd`: the dev cluster of all tests; else one without it, and with SLURM's own pause after a requeue."""
    if request.param == "slurmdbd":
        yield devcluster
        return
    folder = devcluster.folder.with_name(f"{devcluster.folder.name}-3")
    try:
        done = script("up.sh", "--kill-wait", "10", folder)
        assert done.returncode == 0, done.stderr
        with monkeypatch.context() as inside:
            inside.setenv("SLURM_CONF", f"{folder}/etc/slurm.conf")
            yield DevCluster(folder)
    finally:
        script("down.sh", folder)


@pytest.fixture
def user(cluster: DevCluster) -> Iterator[User]:
    """Nobody, at a terminal of the cluster."""
    with somebody(cluster) as user:
        yield user


@contextlib.contextmanager
def somebody(cluster: DevCluster) -> Iterator[User]:
    """Nobody, in a folder that nobody may enter; pytest's own are root's."""
    home = cluster.folder.with_name(f"{cluster.folder.name}-home")
    home.mkdir()
    shutil.chown(home, NOBODY, NOBODY)
    conf = cluster.folder / "etc" / "slurm.conf"
    try:
        everybody = [User(home, python, conf) for python in (sys.executable, "/usr/bin/python3")]
        able = [user for user in everybody if _can_work(user)]
        if not able:
            pytest.skip(
                "other users may not enter this checkout, or the folder of its Python: move them to try this"
            )
        yield able[0]
        empty(cluster)  # nobody writes there any more
    finally:
        shutil.rmtree(home)


def _can_work(user: User) -> bool:
    try:
        return user.runs("-c", "import sedd.cli.submit, submitit, torch").returncode == 0
    except PermissionError:
        return False


@pytest.fixture
def submitted(user: User) -> tuple[RunDir, str]:
    """A run of nobody's that trains, and its job."""
    made = user.sedd("data", "build", PROTEINS, "-o", user.home / "proteins.store")
    assert made.returncode == 0, made.stderr
    (user.home / "tiny.yaml").write_text(SPEC.format(store=user.home / "proteins.store"))
    (user.home / "site.yaml").write_text("executor: slurm\npartition: requeue\nrequeue: true\n")
    done = user.sedd("submit", "tiny.yaml", "--cluster", "site.yaml", "--json")
    assert done.returncode == 0, done.stderr
    (told,) = json.loads(done.stdout)["runs"]
    run = RunDir(Path(told["path"]))
    assert wait_until(lambda: run.metrics.exists() and run.metrics.stat().st_size > 0, timeout_s=120)
    return run, told["job_id"]


def silence(cluster: DevCluster) -> None:
    """Stop slurmctld; jobs run on."""
    pid = int((cluster.folder / "run" / "slurmctld.pid").read_text())
    os.kill(pid, signal.SIGTERM)
    assert wait_until(lambda: not Path(f"/proc/{pid}").exists(), timeout_s=180)


def pauses(job: JobFact) -> bool:
    return job.state is JobState.PENDING and job.reason == "BeginTime"


@pytest.mark.parametrize("cluster", ["no slurmdbd"], indirect=True)
def test_whatever_waits_for_a_run_outlives_a_silent_slurm_and_says_so(
    cluster: DevCluster, user: User, submitted: tuple[RunDir, str]
) -> None:
    run, job_id = submitted
    job = query_job(job_id)
    assert job is not None
    assert job.user == "nobody"
    log = user.starts("log.txt", "logs", run.id, "-f")
    waiting = user.starts("wait.txt", "submit", "tiny.yaml", "--cluster", "site.yaml", "--wait")
    following = user.starts("follow.txt", "submit", "tiny.yaml", "--cluster", "site.yaml", "--follow")
    watchers = (log, waiting, following)
    waiting.waits_for("was submitted before")
    following.waits_for("was submitted before")

    silence(cluster)
    moving = user.starts("requeue.txt", "requeue", run.id)
    for terminal in (moving, *watchers):
        terminal.waits_for("SLURM does not answer")
    assert "running: SLURM does not answer" in user.sedd("status", run.id).stdout
    assert script("up.sh", cluster.folder).returncode == 0
    moving.ends_with(0)
    assert "saves, then goes back to the queue" in moving.text
    for terminal in watchers:
        terminal.waits_for("SLURM answers again")

    cluster.wait(job_id, lambda job: job.restarts == 1 and job.state is not JobState.COMPLETING)
    cluster.wait(job_id, pauses)  # for two minutes, unless its user waives them
    assert "pauses no longer" in user.sedd("requeue", run.id).stdout
    cluster.wait(job_id, lambda job: job.state is JobState.RUNNING, timeout_s=180)
    ended = user.sedd("cancel", run.id)
    assert (ended.returncode, ended.stderr) == (0, "")
    waiting.ends_with(1)
    assert f"tiny/{run.id}: cancelled by nobody; log {run.logs}/{job_id}_0.out" in waiting.text
    following.ends_with(1)
    log.ends_with(0)
    cluster.wait(job_id, lambda job: job.state is JobState.CANCELLED)


@pytest.mark.parametrize("cluster", ["slurmdbd"], indirect=True)
def test_a_run_is_cancelled_through_a_silent_slurm(
    cluster: DevCluster, user: User, submitted: tuple[RunDir, str]
) -> None:
    run, job_id = submitted
    silence(cluster)
    cancelling = user.starts("cancel.txt", "cancel", run.id)
    cancelling.waits_for("SLURM does not answer")
    assert script("up.sh", cluster.folder).returncode == 0
    cancelling.ends_with(0)
    assert f"tiny/{run.id}: cancelled" in cancelling.text
    cluster.wait(job_id, lambda job: job.state is JobState.CANCELLED)
    again = user.sedd("requeue", run.id, "--no-preflight", "--json")
    assert json.loads(again.stdout)["runs"][0]["requeued"] is True, "only a user revives what was cancelled"
    user.sedd("cancel", run.id)
