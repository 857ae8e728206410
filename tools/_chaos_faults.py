"""What can happen to a job under SLURM: each fault is a function of a scene; `FAULTS` lists them all."""

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from _chaos_runs import Watched
from _chaos_site import Site, jobs, workers

from sedd.cluster.command import run
from sedd.cluster.control import scancel
from sedd.cluster.identity import own_job
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
    runs: list[Watched]
    """Those that are under way."""
    repairs: list[Repair] = field(default_factory=list)

    def running(self) -> list[tuple[Watched, JobFact]]:
        """Runs that SLURM runs now, with their jobs."""
        known = jobs()
        pairs = ((run, known.get(run.job_id)) for run in self.runs)
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


def preempt(scene: Scene) -> Harm | None:
    """An urgent job takes a node away."""
    picked = _pick(scene)
    if picked is None:
        return None
    node = _node(scene, picked[1])
    command = ["sbatch", "--parsable", "--partition=urgent", f"--nodelist={node}", "--exclusive", "--time=5"]
    run([*command, "--output=/dev/null", "--wrap=sleep 1"])
    return Harm(_on(scene, node), f"{node}, {picked[0].partition}")


def stop_signal(scene: Scene) -> Harm | None:
    """`scancel --signal`: somebody sends the stop signal by hand."""
    picked = _pick(scene)
    if picked is None:
        return None
    name = scene.rng.choice(["USR2", "TERM"])
    scancel([own_job(picked[0].job_id)], signal=name)
    return Harm([picked[0]], name)


def requeue(scene: Scene) -> Harm | None:
    """An administrator's `scontrol requeue`."""
    picked = _pick(scene)
    if picked is None:
        return None
    run(["scontrol", "requeue", picked[0].job_id])
    return Harm([picked[0]], "")


def time_limit(scene: Scene) -> Harm | None:
    """The time limit comes in 20 s: the warning is due at once."""
    picked = _pick(scene)
    if picked is None:
        return None
    run(["scontrol", "update", f"JobId={picked[0].job_id}", "EndTime=now+20seconds"])
    return Harm([picked[0]], "")


def kill_rank(scene: Scene) -> Harm | None:
    """SIGKILL to one training process, as an out-of-memory killer does."""
    alive = workers(scene.site.runs)
    if not alive:
        return None
    worker = scene.rng.choice(alive)
    victims = [run for run in scene.runs if run.run.path == worker.run]
    return Harm(victims, f"rank {worker.rank}") if _kill(worker.pid) else None


def kill_entry(scene: Scene) -> Harm | None:
    """SIGKILL to the job entry of rank 0, the very process that should say so."""
    picked = _pick(scene)
    starts = [e for e in picked[0].said() if e.event == "attempt_started"] if picked else []
    if picked is None or not starts or not _kill(int(starts[-1].get("pid"))):
        return None
    return Harm([picked[0]], "")


def kill_in_save(scene: Scene) -> Harm | None:
    """SIGKILL to rank 0 while it writes a checkpoint; the half-written file says that it was hit."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        for watched in scene.runs:
            with contextlib.suppress(OSError):
                halves = [p for p in os.listdir(watched.run.checkpoints) if p.endswith(".tmp")]
                if halves:
                    os.kill(int(halves[0].split(".")[-2]), signal.SIGKILL)
                    return Harm([watched], halves[0])
        time.sleep(0.001)
    return None


def lose_node(scene: Scene) -> Harm | None:
    """slurmd dies and comes back long after SLURM has given the node up: its old processes run on meanwhile."""
    picked = _pick(scene)
    if picked is None:
        return None
    node = _node(scene, picked[1])
    if scene.is_hurt(node):
        return None
    victims = _on(scene, node)
    scene.site.daemon("kill", f"slurmd-{node}")
    deadline, wait_s = time.monotonic() + 90, scene.rng.uniform(0, 20)
    lost: list[float] = []

    def is_due() -> bool:
        if not lost and (time.monotonic() > deadline or _is_down(node)):
            lost.append(time.monotonic())
        return bool(lost) and time.monotonic() > lost[0] + wait_s

    scene.repairs.append(Repair(is_due, lambda: _revive(scene.site, node), node))
    return Harm(victims, f"{node} for {wait_s:.0f} s after SLURM noticed")


def blink_node(scene: Scene) -> Harm | None:
    """slurmd dies and is back before SLURM notices."""
    node = scene.rng.choice(["v100-1", "v100-2", "v100-3", "v100-4"])
    if scene.is_hurt(node):
        return None
    scene.site.daemon("kill", f"slurmd-{node}")
    scene.later(scene.rng.uniform(0.5, 4), lambda: _revive(scene.site, node), node)
    return Harm(_on(scene, node), node)


def down_node(scene: Scene) -> Harm | None:
    """An administrator takes a node down with everything on it."""
    return _set_node(scene, "DOWN")


def drain_node(scene: Scene) -> Harm | None:
    """A node takes no new job for a while."""
    return _set_node(scene, "DRAIN")


def restart_controller(scene: Scene) -> Harm | None:
    """slurmctld is away for a while: nobody answers."""
    if scene.is_hurt("slurmctld"):
        return None
    scene.site.daemon("stop", "slurmctld")
    seconds = scene.rng.uniform(0, 8)
    scene.later(seconds, lambda: scene.site.daemon("start", "slurmctld"), "slurmctld")
    return Harm(list(scene.runs), f"for {seconds:.0f} s")


def fill_disk(scene: Scene) -> Harm | None:
    """The disk of all runs is full for a while, to the last byte."""
    ballast = scene.site.ballast
    if ballast.exists():
        return None
    with ballast.open("wb", buffering=0) as file:
        block = bytes(2**20)
        while block:
            with contextlib.suppress(OSError):
                while file.write(block) == len(block):
                    pass
            block = block[: len(block) // 16]
    seconds = scene.rng.uniform(2, 10)
    scene.later(seconds, ballast.unlink, "disk")
    return Harm(list(scene.runs), f"for {seconds:.0f} s")


def possible(site: Site, kinds: Sequence[str]) -> list[str]:
    """Those of the faults that this machine allows: without a file system of our own nothing is filled up."""
    return [kind for kind in kinds if kind != "disk full" or site.has_own_disk]


FAULTS: dict[str, Fault] = {
    "preempt": preempt,
    "stop signal": stop_signal,
    "time limit": time_limit,
    "requeue": requeue,
    "kill rank": kill_rank,
    "kill entry": kill_entry,
    "kill in save": kill_in_save,
    "lose node": lose_node,
    "blink node": blink_node,
    "node down": down_node,
    "drain node": drain_node,
    "restart slurmctld": restart_controller,
    "disk full": fill_disk,
}
GRACEFUL = (
    "preempt",
    "stop signal",
    "time limit",
    "requeue",
    "drain node",
    "restart slurmctld",
    "blink node",
)
"""Those that announce themselves or do not touch a job: they may cost no step."""


def _pick(scene: Scene) -> tuple[Watched, JobFact] | None:
    running = scene.running()
    return scene.rng.choice(running) if running else None


def _node(scene: Scene, job: JobFact) -> str:
    return scene.rng.choice(_hosts(job))


def _on(scene: Scene, node: str) -> list[Watched]:
    return [run for run, job in scene.running() if node in _hosts(job)]


def _hosts(job: JobFact) -> list[str]:
    return run(["scontrol", "show", "hostnames", job.nodes or ""]).split()


def _kill(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
        return True
    return False


def _is_down(node: str) -> bool:
    with contextlib.suppress(ClusterError):
        return "down" in _state(node)
    return False


def _state(node: str) -> str:
    return run(["sinfo", "--noheader", "--Node", f"--nodes={node}", "--format=%T"], timeout_s=5)


def _revive(site: Site, node: str) -> None:
    site.daemon("start", f"slurmd-{node}")


def _set_node(scene: Scene, state: str) -> Harm | None:
    picked = _pick(scene)
    if picked is None:
        return None
    node = _node(scene, picked[1])
    if scene.is_hurt(node):
        return None
    victims = _on(scene, node)
    run(["scontrol", "update", f"NodeName={node}", f"State={state}", "Reason=chaos"])

    def resume() -> None:
        if any(word in _state(node) for word in ("down", "drain")):  # else it has come back by itself
            run(["scontrol", "update", f"NodeName={node}", "State=RESUME"])

    scene.later(scene.rng.uniform(1, 10), resume, node)
    return Harm(victims, node)
