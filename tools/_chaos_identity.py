"""Faults of mistaken identity: ids that mean other jobs, a shell that speaks of another job, commands at once."""

import os
import subprocess
import sys

from _chaos_scene import Harm, Scene, pick
from _chaos_strangers import number_of

from sedd.cluster.command import run
from sedd.cluster.scontrol import query_job

HOSTILE = {
    "SBATCH_PARTITION": "urgent",
    "SBATCH_TIMELIMIT": "1",
    "SBATCH_NO_REQUEUE": "1",
    "SBATCH_MEM_PER_NODE": "15999",
    "SBATCH_EXPORT": "NONE",
    "SBATCH_COMMENT": "somebody else's",
    "SLURM_EXPORT_ENV": "NONE",
    "SLURM_MEM_PER_CPU": "1",
    "SLURM_NTASKS": "7",
    "SLURM_JOB_ID": "1",
    "SLURM_RESTART_COUNT": "3",
    "SQUEUE_FORMAT": "%i",
    "SCANCEL_STATE": "PENDING",
    "SUBMITIT_EXECUTOR": "local",
    "SEDD_ATTEMPT": "7",
    "RANK": "3",
    "WORLD_SIZE": "9",
    "MASTER_ADDR": "nowhere.invalid",
    "WANDB_RUN_ID": "one-for-all",
}
"""What may be left over in the shell of somebody who submits."""


def reuse_ids(scene: Scene) -> Harm | None:
    """slurmctld loses its state and counts anew; the jobs of others get the ids that our runs had."""
    if scene.is_hurt("slurmctld") or not scene.runs:
        return None
    site, ids = scene.site, [number_of(watched.job_id) for watched in scene.runs]
    site.daemon("stop", "slurmctld")
    scene.strangers.forget(str(site.conf))
    site.forget_state(first_job_id=min(ids))
    site.daemon("start", "slurmctld")
    planted = scene.strangers.plant(str(site.conf), up_to=max(ids))
    site.await_saved_state()
    return Harm(list(scene.runs), f"jobs {min(ids)} to {min(ids) + planted - 1} are others' now")


def two_clusters(scene: Scene) -> Harm | None:
    """On another cluster with the same runs folder a user cancels and requeues a run: its id is a stranger's there."""
    picked, other = pick(scene), scene.site.other
    if picked is None or other is None:
        return None
    conf, path = str(other / "etc" / "slurm.conf"), str(picked[0].run.path)
    scene.strangers.plant(conf, up_to=number_of(picked[0].job_id))
    for verb in ("cancel", "requeue"):
        if _sedd(verb, path, SLURM_CONF=conf).wait(timeout=60) == 0:
            scene.violations.append(f"`sedd {verb}` on another cluster went well: {path}")
    scene.strangers.look(conf)
    return Harm([picked[0]], f"job {picked[0].job_id}")


def hostile_shell(scene: Scene) -> Harm | None:
    """A run is submitted, and another one moved on, from a shell that is set up for another job."""
    if scene.is_hurt("slurmctld") or scene.is_hurt("disk"):
        return None
    picked = pick(scene)
    partition = scene.rng.choice(["requeue", "nograce", "cancel"])
    made = scene.submit("single", partition, **HOSTILE)
    for watched in made:
        job = query_job(watched.job_id)
        if job and (job.partition, job.time_limit_s, job.may_requeue) != (partition, 3600, True):
            scene.violations.append(f"submitted to {partition} from a hostile shell: {job}")
    if picked is not None:
        _sedd("requeue", str(picked[0].run.path), **HOSTILE).wait(timeout=60)
    return Harm([*made, *([picked[0]] if picked else [])], partition)


def requeue_thrice(scene: Scene) -> Harm | None:
    """Three `sedd requeue` of a run at one instant."""
    picked = pick(scene)
    if picked is None:
        return None
    started = [_sedd("requeue", str(picked[0].run.path)) for _ in range(3)]
    codes = [process.wait(timeout=120) for process in started]
    return Harm([picked[0]], f"exit codes {codes}")


def give_time_back(job_id: str) -> None:
    """The time limit that a fault has shortened is an hour again. Raises: ClusterError."""
    run(["scontrol", "update", f"JobId={job_id}", "TimeLimit=60"])


def _sedd(*arguments: str, **shell: str) -> "subprocess.Popen[bytes]":
    command, null = [sys.executable, "-m", "sedd", *arguments], subprocess.DEVNULL
    return subprocess.Popen(command, env=os.environ | shell, stdout=null, stderr=null)
