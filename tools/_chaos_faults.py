"""What can happen to a job under SLURM: each fault is a function of a scene; `FAULTS` lists them all."""

import contextlib
import os
import signal
import time
from collections.abc import Sequence

from _chaos_folders import delete_folder, fill_disk, move_folder
from _chaos_freezer import half_written, writer_of
from _chaos_hangs import hang, hang_after_save, hang_in_step, slow_disk, stop_rank
from _chaos_identity import hostile_shell, requeue_thrice, reuse_ids, two_clusters
from _chaos_scene import (
    Fault,
    Harm,
    Repair,
    Scene,
    end_soon,
    is_down,
    kill,
    node_of,
    on_node,
    pick,
    state_of,
    take_node,
)
from _chaos_site import Site, workers

from sedd.cluster.command import run
from sedd.cluster.control import scancel
from sedd.cluster.identity import own_job


def preempt(scene: Scene) -> Harm | None:
    """An urgent job takes a node away."""
    picked = pick(scene)
    if picked is None:
        return None
    node = node_of(scene, picked[1])
    take_node(node)
    return Harm(on_node(scene, node), f"{node}, {picked[0].partition}")


def stop_signal(scene: Scene) -> Harm | None:
    """`scancel --signal`: somebody sends the stop signal by hand."""
    picked = pick(scene)
    if picked is None:
        return None
    name = scene.rng.choice(["USR2", "TERM"])
    scancel([own_job(picked[0].job_id)], signal=name)
    return Harm([picked[0]], name)


def requeue(scene: Scene) -> Harm | None:
    """An administrator's `scontrol requeue`."""
    picked = pick(scene)
    if picked is None:
        return None
    run(["scontrol", "requeue", picked[0].job_id])
    return Harm([picked[0]], "")


def time_limit(scene: Scene) -> Harm | None:
    """The time limit comes in 20 s: the warning is due at once."""
    picked = pick(scene)
    if picked is None:
        return None
    end_soon(picked[0].job_id)
    return Harm([picked[0]], "")


def kill_rank(scene: Scene) -> Harm | None:
    """SIGKILL to one training process, as an out-of-memory killer does."""
    alive = workers(scene.site.runs)
    if not alive:
        return None
    worker = scene.rng.choice(alive)
    victims = [run for run in scene.runs if run.run.path == worker.run]
    return Harm(victims, f"rank {worker.rank}") if kill(worker.pid) else None


def kill_entry(scene: Scene) -> Harm | None:
    """SIGKILL to the job entry of rank 0, the very process that should say so."""
    picked = pick(scene)
    starts = [e for e in picked[0].said() if e.event == "attempt_started"] if picked else []
    if picked is None or not starts or not kill(int(starts[-1].get("pid"))):
        return None
    return Harm([picked[0]], "")


def kill_in_save(scene: Scene) -> Harm | None:
    """SIGKILL to rank 0 while it writes a checkpoint; the half-written file says that it was hit."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        for watched in scene.runs:
            with contextlib.suppress(OSError):
                if halves := half_written(watched.run.checkpoints):
                    os.kill(writer_of(halves[0]), signal.SIGKILL)
                    return Harm([watched], halves[0])
        time.sleep(0.001)
    return None


def lose_node(scene: Scene) -> Harm | None:
    """slurmd dies and comes back long after SLURM has given the node up: its old processes run on meanwhile."""
    picked = pick(scene)
    if picked is None:
        return None
    node = node_of(scene, picked[1])
    if scene.is_hurt(node):
        return None
    victims = on_node(scene, node)
    scene.site.daemon("kill", f"slurmd-{node}")
    deadline, wait_s = time.monotonic() + 90, scene.rng.uniform(0, 20)
    lost: list[float] = []

    def is_due() -> bool:
        if not lost and (time.monotonic() > deadline or is_down(node)):
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
    return Harm(on_node(scene, node), node)


def down_node(scene: Scene) -> Harm | None:
    """An administrator takes a node down with everything on it."""
    return _set_node(scene, "DOWN")


def drain_node(scene: Scene) -> Harm | None:
    """A node takes no new job for a while."""
    return _set_node(scene, "DRAIN")


def restart_controller(scene: Scene) -> Harm | None:
    """slurmctld is away for a while: nobody answers."""
    return _end_controller(scene, "stop", (0, 8))


def lose_controller(scene: Scene) -> Harm | None:
    """slurmctld is killed, with all that it has not saved yet, and comes back after a while."""
    return _end_controller(scene, "kill", (5, 25))


def _end_controller(scene: Scene, how: str, away_s: tuple[float, float]) -> Harm | None:
    if scene.is_hurt("slurmctld"):
        return None
    scene.site.daemon(how, "slurmctld")
    seconds = scene.rng.uniform(*away_s)
    scene.later(seconds, lambda: scene.site.daemon("start", "slurmctld"), "slurmctld")
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
    "lose slurmctld": lose_controller,
    "hang": hang,
    "hang after save": hang_after_save,
    "hang in step": hang_in_step,
    "rank stopped": stop_rank,
    "slow disk": slow_disk,
    "reused job ids": reuse_ids,
    "two clusters": two_clusters,
    "hostile shell": hostile_shell,
    "three requeues": requeue_thrice,
    "folder moved": move_folder,
    "folder deleted": delete_folder,
}
GRACEFUL = (
    "preempt",
    "stop signal",
    "time limit",
    "requeue",
    "drain node",
    "restart slurmctld",
    "blink node",
    "two clusters",
    "hostile shell",
    "three requeues",
)
"""Those that announce themselves or do not touch a job: they may cost no step."""


def _revive(site: Site, node: str) -> None:
    site.daemon("start", f"slurmd-{node}")


def _set_node(scene: Scene, state: str) -> Harm | None:
    picked = pick(scene)
    if picked is None:
        return None
    node = node_of(scene, picked[1])
    if scene.is_hurt(node):
        return None
    victims = on_node(scene, node)
    run(["scontrol", "update", f"NodeName={node}", f"State={state}", "Reason=chaos"])

    def resume() -> None:
        if any(word in state_of(node) for word in ("down", "drain")):  # else it has come back by itself
            run(["scontrol", "update", f"NodeName={node}", "State=RESUME"])

    scene.later(scene.rng.uniform(1, 10), resume, node)
    return Harm(victims, node)
