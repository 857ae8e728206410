"""What a fault may choose from, what it reports, and the small steps that faults have in common."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from _chaos_freezer import Freezer
from _chaos_runs import Watched
from _chaos_site import Site, jobs
from _chaos_strangers import Strangers

from sedd.cluster.command import run
from sedd.cluster.jobs import JobFact
from sedd.cluster.states import JobState
from sedd.errors import ClusterError


@dataclass(slots=True)
class Repair:
    """What undoes a fault, and when."""

    is_due: Callable[[], bool]
    act: Callable[[], None]
    what: str


@dataclass(slots=True)
class Scene:
    """Everything that a fault may choose from."""

    site: Site
    rng: random.Random
    submit: Callable[..., list[Watched]]
    """Submits a layout to a partition; keywords are variables of the user's shell."""
    runs: list[Watched] = field(default_factory=list)
    """Those that are under way."""
    repairs: list[Repair] = field(default_factory=list)
    freezer: Freezer = field(default_factory=Freezer)
    strangers: Strangers = field(default_factory=Strangers)
    violations: list[str] = field(default_factory=list)
    """What must never happen, and did."""

    def running(self) -> list[tuple[Watched, JobFact]]:
        """Runs that SLURM runs now, with their jobs."""
        known = jobs()
        pairs = ((run, run.own(known)) for run in self.runs)
        return [(run, job) for run, job in pairs if job is not None and job.state is JobState.RUNNING]

    def later(self, seconds: float, act: Callable[[], None], what: str) -> None:
        """Do something in a while."""
        due = time.monotonic() + seconds
        self.repairs.append(Repair(lambda: time.monotonic() >= due, act, what))

    def is_hurt(self, what: str) -> bool:
        """Whether this very thing waits to be repaired."""
        return any(repair.what == what for repair in self.repairs)


@dataclass(frozen=True, slots=True)
class Harm:
    """What a fault did."""

    victims: Sequence[Watched]
    detail: str


Fault = Callable[[Scene], Harm | None]
"""None: there was nothing to hurt."""


def pick(scene: Scene) -> tuple[Watched, JobFact] | None:
    """Any run that SLURM runs now."""
    running = scene.running()
    return scene.rng.choice(running) if running else None


def node_of(scene: Scene, job: JobFact) -> str:
    """One of the job's nodes."""
    return scene.rng.choice(_hosts(job))


def on_node(scene: Scene, node: str) -> list[Watched]:
    """The runs that have processes on a node."""
    return [run for run, job in scene.running() if node in _hosts(job)]


def take_node(node: str) -> None:
    """An urgent job takes a node for a second."""
    command = ["sbatch", "--parsable", "--partition=urgent", f"--nodelist={node}", "--exclusive", "--time=5"]
    run([*command, "--output=/dev/null", "--wrap=sleep 1"])


def end_soon(job_id: str) -> None:
    """The time limit comes in 20 s: the warning is due at once."""
    run(["scontrol", "update", f"JobId={job_id}", "EndTime=now+20seconds"])


def kill(pid: int) -> bool:
    """SIGKILL; whether there was anybody."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def is_down(node: str) -> bool:
    """Whether SLURM has given a node up."""
    with contextlib.suppress(ClusterError):
        return "down" in state_of(node)
    return False


def state_of(node: str) -> str:
    """A node's state in SLURM's words."""
    return run(["sinfo", "--noheader", "--Node", f"--nodes={node}", "--format=%T"], timeout_s=5)


def _hosts(job: JobFact) -> list[str]:
    return run(["scontrol", "show", "hostnames", job.nodes or ""]).split()
