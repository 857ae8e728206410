"""Faults of processes that stand still: for a while, or for good."""

import time

from _chaos_runs import Watched
from _chaos_scene import Harm, Scene, end_soon, node_of, pick, take_node
from _chaos_site import Worker, workers

from sedd.cluster.jobs import JobFact
from sedd.rundir.heartbeat import read_heartbeat
from sedd.rundir.layout import RunDir


def hang_after_save(scene: Scene) -> Harm | None:
    """A run is preempted, or meets its time limit; as soon as its last checkpoint is written it hangs."""
    picked = pick(scene)
    if picked is None:
        return None
    watched, job = picked
    seen, training = len(watched.said()), _training(scene, watched)
    how = _ask_to_leave(scene, watched, job)
    deadline = time.monotonic() + 45
    while time.monotonic() < deadline:
        new = [e for e in watched.said()[seen:] if e.event in ("checkpoint", "requeued")]
        if any(e.event == "checkpoint" and e.get("reason") == "stop" for e in new):
            held = sum(scene.freezer.hold(worker.pid) for worker in training)
            return Harm([watched], f"{how}, {held} of {len(training)} ranks") if held else None
        if any(e.event == "requeued" for e in new):
            return None
        time.sleep(0.002)
    return None


def hang_in_step(scene: Scene) -> Harm | None:
    """All ranks of a run, or one of them, stand still for good when it is preempted, or its time is up."""
    picked = pick(scene)
    training = _training(scene, picked[0]) if picked else []
    if picked is None or not training:
        return None
    chosen = training if scene.rng.random() < 0.5 else [scene.rng.choice(training)]
    how = _ask_to_leave(scene, *picked)  # SLURM takes a second at least to pass it on
    held = sum(scene.freezer.hold(worker.pid) for worker in chosen)
    return Harm([picked[0]], f"{held} of {len(training)} ranks, {how}")


def stop_rank(scene: Scene) -> Harm | None:
    """One training process stands still for a while."""
    alive = workers(scene.site.runs)
    if not alive:
        return None
    worker, seconds = scene.rng.choice(alive), scene.rng.uniform(2, 15)
    victims = [watched for watched in scene.runs if watched.run.path == worker.run]
    held = scene.freezer.hold(worker.pid, seconds)
    return Harm(victims, f"rank {worker.rank} for {seconds:.0f} s") if held else None


def hang(scene: Scene) -> Harm | None:
    """One training process stands still for good, and nobody asks its run to leave: the watchdog has to see it."""
    alive = [worker for worker in workers(scene.site.runs) if _is_training(worker)]
    if not alive:
        return None
    worker = scene.rng.choice(alive)
    victims = [watched for watched in scene.runs if watched.run.path == worker.run]
    return Harm(victims, f"rank {worker.rank}") if scene.freezer.hold(worker.pid) else None


def slow_disk(scene: Scene) -> Harm | None:
    """For a while every checkpoint takes two seconds longer, in the middle of its writing."""
    if not scene.runs:
        return None
    seconds = scene.rng.uniform(5, 15)
    scene.freezer.slow_down(tuple(watched.run.checkpoints for watched in scene.runs), seconds)
    return Harm(list(scene.runs), f"for {seconds:.0f} s")


def _is_training(worker: Worker) -> bool:
    """Whether its attempt has taken steps: before the first ones the limit is half an hour."""
    beat = read_heartbeat(RunDir(worker.run).heartbeat)
    is_own = beat is not None and (beat.attempt, beat.phase) == (worker.attempt, "training")
    return is_own and beat is not None and beat.loss is not None


def _training(scene: Scene, watched: Watched) -> list[Worker]:
    return [worker for worker in workers(scene.site.runs) if worker.run == watched.run.path]


def _ask_to_leave(scene: Scene, watched: Watched, job: JobFact) -> str:
    if scene.rng.random() < 0.5:
        end_soon(watched.job_id)
        return "time limit"
    take_node(node_of(scene, job))
    return f"preempted in {watched.partition}"
