"""`python -m sedd.job.entry RUN`: the job entry on the node. It imports no torch; the training is a process of its own.

It replaces submitit's program (`sedd/launch/pickled_job.py`) with the stop signals blocked, and accepts them here.
"""

import contextlib
import os
import sys
from pathlib import Path

from sedd.cluster.profile import LocalProfile, Profile, SlurmProfile
from sedd.errors import RunError, SeddError
from sedd.job.attempt import Task
from sedd.job.begin_attempt import begin_attempt, find_start, require_newest_start
from sedd.job.environment import TaskEnvironment, done_file, read_task_environment
from sedd.job.final_events import is_decided, record_event
from sedd.job.needs import await_needs
from sedd.job.picked_shape import in_shape_of_job, record_shape
from sedd.job.processes import SignalBox, accept_signals, has_children, signals_held
from sedd.job.stdout import survive_full_disk
from sedd.job.supervisor import supervise
from sedd.launch.freeze import imported_package, require_frozen
from sedd.launch.resources import read_manifest_profile
from sedd.launch.setup_lines import require_setup
from sedd.launch.wake import try_to_wake
from sedd.notify.tell import tell_end
from sedd.rundir.attempts import Cause
from sedd.rundir.events import read_events
from sedd.rundir.fence import SupersededError, newest_attempt
from sedd.rundir.layout import RunDir
from sedd.rundir.node_folder import entry_name, remove_folders
from sedd.spec.load import load_resolved
from sedd.spec.task import TaskSpec


def main(path: str) -> int:
    """Run this task process of a job to its end; returns its exit code."""
    run = RunDir(Path(path))
    survive_full_disk()
    box = SignalBox()
    box.install()
    accept_signals()
    try:
        task = make_task(run, read_task_environment())
    except SeddError as e:
        return _refuse_damaged(run, e)
    try:
        require_setup_of(run)
        require_frozen(run, package=imported_package())
        if not await_needs(task, box):
            return 0
        if task.environment.is_first:
            require_newest_start(read_events(run.events), task.environment)
            record_shape(task)
    except SupersededError as e:
        print(e.message, flush=True)
        return 0
    except RunError as e:
        return refuse(task, e)
    try:
        return supervise(task, box)
    finally:
        remove_local_copies(run, entry=entry_name(os.getpid()))


def remove_local_copies(run: RunDir, *, entry: str | None) -> None:
    """At the end of a job nobody restarts from its node's copies of the training state."""
    with contextlib.suppress(SeddError):  # a damaged manifest: a later job of this user removes them
        asked = read_manifest_profile(run).local_checkpoints
        remove_folders(run.path, entry, asked=asked, environ=os.environ)


def require_setup_of(run: RunDir) -> None:
    """Raises: RunError when a line of the profile's `setup` failed in this job, and all must succeed."""
    profile = read_manifest_profile(run)
    if isinstance(profile, SlurmProfile):
        require_setup(profile, os.environ)


def make_task(run: RunDir, environment: TaskEnvironment) -> Task:
    """What the entry of this run has to do in this task of a job.

    Raises:
        RunError, SpecError: the run folder is damaged.
    """
    experiment, profile = in_shape_of_job(load_resolved(run.spec), environment), read_manifest_profile(run)
    return Task(
        run=run,
        experiment=experiment,
        environment=environment,
        command=worker_command(run, experiment, profile),
        limit_s=experiment.resources.walltime if isinstance(profile, LocalProfile) else None,
    )


def worker_command(run: RunDir, experiment: TaskSpec, profile: Profile) -> tuple[str, ...]:
    """Starts a process that does the work, inside the profile's container if it names one.

    The job entry stays outside: SLURM's commands, which it needs, are rarely in an image.
    """
    arguments = ("-m", "sedd.job.worker", str(run.path))
    if not isinstance(profile, SlurmProfile) or profile.container is None:
        return (sys.executable, *arguments)
    gpus = ("--nv",) if experiment.resources.gpus_per_node else ()
    folders = (run.path, run.code.resolve(), *experiment.folders())
    binds = tuple(part for folder in folders for part in ("--bind", str(folder)))
    return ("apptainer", "exec", *gpus, *binds, profile.container, "python3", *arguments)


def _refuse_damaged(run: RunDir, error: SeddError) -> int:
    """A run folder that cannot be read, such as one with a damaged spec.yaml: no attempt can even be counted."""
    print(f"error: {error.message}", flush=True)
    if read_task_environment().is_first and run.path.is_dir():
        number = newest_attempt(read_events(run.events))
        record_event(run, "failed", attempt=number, cause=Cause.CRASHED, error=error.message, rank=0)
        record_event(run, "gave_up", attempt=number, cause=Cause.CRASHED, detail=error.message)
    return 1


def refuse(task: Task, error: SeddError) -> int:
    """Give the run up before it starts: another attempt would meet the same error."""
    print(f"error: {error.message}", flush=True)
    if task.environment.is_first:
        number = begin_attempt(task).attempt
        record_event(task.run, "failed", attempt=number, cause=Cause.CRASHED, error=error.message, rank=0)
        record_event(task.run, "gave_up", attempt=number, cause=Cause.CRASHED, detail=error.message)
    return 1


def wake_fellows_of(path: str) -> None:
    """Of a halving sweep: let those start that this run's end lets pass their rung."""
    environment, run = read_task_environment(), RunDir(Path(path))
    if environment.is_first and run.manifest.exists():
        with signals_held() if environment.executor == "slurm" else contextlib.nullcontext():
            try_to_wake(run)


def tell_end_of(path: str) -> None:
    """Tell whom the user wants told, if the run has ended."""
    if read_task_environment().is_first and (run := RunDir(Path(path))).manifest.exists():
        tell_end(run, is_login=False)


def is_settled(path: str) -> bool:
    """Whether the newest attempt is of this start of the job, and what follows it is recorded."""
    environment, run = read_task_environment(), RunDir(Path(path))
    try:
        events = read_events(run.events)
    except RunError:
        return False
    start = find_start(events, job_id=environment.job_id, restarts=environment.restarts)
    newest = newest_attempt(events)
    return start is not None and start.attempt == newest and is_decided(events, newest)


def note_all_done(path: str) -> None:
    """Spare the batch script's last line a look at what this entry has left undone: nothing, and no process.

    The job that continues the run waits for that line. Only for an attempt that `is_settled` before this entry wakes
    others and tells its user: where it was not yet, as where another entry leads, that line does so.
    """
    environment, run = read_task_environment(), RunDir(Path(path))
    of_sweep = (
        run.code.resolve().parent / "submitit"
    )  # a point's first job has its files there, later ones in the run
    is_there = (of_sweep / f"{environment.job_id}_submitted.pkl").exists()
    folder = of_sweep if is_there else run.submitit
    file = done_file(folder, os.environ) if environment.executor == "slurm" else None
    if file is not None and environment.rank == 0 and not has_children():
        # Of earlier starts there is one left where SLURM has killed the batch script, which removes it.
        for left in folder.glob("*.done" if folder == run.submitit else f"{file.stem.split('-')[0]}-*.done"):
            left.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            file.write_text(path, encoding="utf-8")


if __name__ == "__main__":
    code = main(sys.argv[1])
    has_done_all = code == 0 and is_settled(sys.argv[1])
    wake_fellows_of(sys.argv[1])
    tell_end_of(sys.argv[1])
    if has_done_all:
        note_all_done(sys.argv[1])
    sys.exit(code)
