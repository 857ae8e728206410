"""`python -m sedd.job.batch_end SUBMITIT_FOLDER`: the last line of a batch script, after srun has returned.

Its exit code is the job's. When every job entry was killed before rank 0 could decide, or none came to its first line,
it decides here. Where all of them ended well it has nothing to do, and imports next to nothing: the job that continues
the run waits for it.
"""

import contextlib
import datetime as dt
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from sedd.job.environment import done_file, read_slurm_environment
from sedd.rundir.layout import RunDir
from sedd.rundir.read_usage import note_job_end


def is_done(folder: Path, environ: Mapping[str, str], *, now: dt.datetime) -> bool:
    """Whether srun saw every entry end well, and task 0's says that nothing is left to do; the job's end is then noted.

    An exit code of 0 alone may be that of a line of `setup` that ended the script. Nobody looks at the file again,
    whatever it says: it is removed.
    """
    file = done_file(folder, environ)
    if file is None:
        return False
    try:
        path = file.read_text(encoding="utf-8")
    except OSError:
        return False
    with contextlib.suppress(OSError):
        file.unlink()
    if not path or environ.get("SEDD_STEP_EXIT") != "0":  # no path: the disk was full
        return False
    note_job_end(RunDir(Path(path)), now=now)
    return True


if __name__ == "__main__" and is_done(Path(sys.argv[1]), os.environ, now=dt.datetime.now(dt.UTC)):
    sys.exit(0)

from sedd.errors import DiskFullError, RunError, SeddError
from sedd.job.attempt import Task
from sedd.job.begin_attempt import begin_attempt, find_start, is_over
from sedd.job.causes import Ending, in_newest_attempt
from sedd.job.continuation import is_continued
from sedd.job.deadline import StopFacts, seconds_to_secure
from sedd.job.entry import make_task, refuse, remove_local_copies, require_setup_of
from sedd.job.final_events import FINAL_EVENTS, read_with_retry
from sedd.job.finish_attempt import finish_attempt, finish_unrecorded
from sedd.job.next_attempt import ensure_next_attempt
from sedd.job.own_job import query_job_fact, query_kill_wait_s
from sedd.job.processes import signals_held
from sedd.job.stdout import survive_full_disk
from sedd.job.supervisor import FOLDER_PATIENCE_S
from sedd.job.watch import RunFolderGoneError
from sedd.launch.local_processes import end_training, find_training, wait_until
from sedd.launch.pickled_job import run_of_job
from sedd.launch.wake import try_to_wake
from sedd.notify.tell import tell_end
from sedd.rundir.attempts import Cause, slowest_save_s
from sedd.rundir.events import Event
from sedd.rundir.fence import SupersededError, require_newest_in
from sedd.rundir.job_output import telling_line

ASK_S = 4.0
"""Between two questions to SLURM while a training saves whose entry was killed."""


def main(folder: str) -> int:
    """Finish what the job entries of this SLURM job left undone; returns the job's exit code."""
    environment = read_slurm_environment(os.environ)
    with signals_held():
        try:
            task = make_task(_require_run(Path(folder), environment.job_id), environment)
            code = finish(task, output=Path(folder) / f"{environment.job_id}_0_log.out")
            remove_local_copies(task.run, entry=None)
            note_job_end(task.run, now=dt.datetime.now(dt.UTC))
            try_to_wake(task.run)
            tell_end(task.run, is_login=False)
            return code
        except SupersededError as e:
            print(e.message, flush=True)
            return 0
        except SeddError as e:  # a damaged run folder: the job entry has recorded it
            print(f"error: {e.message}", flush=True)
            return 1


def _require_run(folder: Path, job_id: str) -> RunDir:
    """The run of this job; where its folder is away for a moment, this program starts anew when it is back.

    Its frozen code was away, too: what runs now may be another version.

    Raises:
        RunFolderGoneError: the folder was deleted or moved for good.
    """
    if (run := _find_run(folder, job_id)) is None:
        print(f"the run folder is gone, deleted or moved: {folder}", flush=True)
        if wait_until(lambda: _find_run(folder, job_id) is not None, timeout_s=FOLDER_PATIENCE_S):
            os.execv(sys.executable, [sys.executable, "-m", "sedd.job.batch_end", str(folder)])
        raise RunFolderGoneError(f"the run folder did not come back within {FOLDER_PATIENCE_S:.0f} s")
    return run


def _find_run(folder: Path, job_id: str) -> RunDir | None:
    try:
        run = run_of_job(folder, job_id)
    except OSError:
        return None
    return run if run.manifest.exists() else None


def finish(task: Task, *, output: Path | None = None) -> int:
    """Make sure that the attempt of this start of the job has its final event, and that SLURM has been asked.

    `output` is the file that the batch script writes to.

    Raises:
        SupersededError: this was a lost node's job; another has taken the run over.
    """
    events = read_with_retry(task.run)
    if is_over(events):
        return 0
    start = find_start(events, job_id=task.environment.job_id, restarts=task.environment.restarts)
    if start is None:
        try:
            require_setup_of(task.run)
        except RunError as e:
            return refuse(task, e)
        if is_continued(events, task.environment.job_id):
            return 0  # what it needs waits at a rung: another job looks again
        return _finish_unstarted(task, events, output)
    require_newest_in(events, attempt=start.attempt)
    final = next((e for e in reversed(in_newest_attempt(events)) if e.event in FINAL_EVENTS), None)
    if final is None:
        # Its job entry was killed: SIGTERM has reached the training, and it may be saving.
        _await_training(task, events, attempt=start.attempt)
        end_training(task.run, attempt=start.attempt, grace_s=0.0)
        return _finish_as(task, _ending(task), attempt=start.attempt)
    code = _ask_again(task, events, final) if final.event == "requeued" else int(final.event == "gave_up")
    end_training(task.run, attempt=start.attempt, grace_s=query_kill_wait_s(task))
    return code


def _finish_unstarted(task: Task, events: Sequence[Event], output: Path | None) -> int:
    """No job entry came as far as to count its attempt: record what is known of it."""
    try:
        attempt = begin_attempt(task).attempt
    except DiskFullError as e:
        print(e.message, flush=True)
        return finish_unrecorded(task, events).exit_code
    ending = _ending(task, before="its first line", last_line=telling_line(output) if output else None)
    return _finish_as(task, ending, attempt=attempt)


def _finish_as(task: Task, ending: Ending, *, attempt: int) -> int:
    events = read_with_retry(task.run)
    return finish_attempt(task, ending, events, attempt=attempt, has_entries=False).exit_code


def _ending(task: Task, *, before: str = "it recorded why", last_line: str | None = None) -> Ending:
    """What srun's exit code tells of job entries that ended without a record."""
    code = task.environment.step_exit
    if code is not None and code > 128:
        return Ending(exit_code=128 - code, signals=frozenset(), time_left_s=None, rank=0)
    what = f"exit code {code}" if code else "the job's processes ended"
    error = f"{what} before {before}" + (f": {last_line}" if last_line else "")
    unknown = -signal.SIGKILL  # nothing but a kill ends a job entry so
    return Ending(exit_code=code or unknown, signals=frozenset(), time_left_s=None, rank=0, error=error)


def _await_training(task: Task, events: Sequence[Event], *, attempt: int) -> None:
    """Let a training whose entry was killed save, as long as SLURM leaves time for it.

    Nobody passes on to the batch script that SLURM begins to end the job meanwhile: it is asked again and again.
    """
    until = time.monotonic() + _grace_s(task, events)
    while find_training(task.run, attempt=attempt) and (now := time.monotonic()) < until:
        wait_until(lambda: not find_training(task.run, attempt=attempt), timeout_s=min(ASK_S, until - now))
        until = min(until, time.monotonic() + _grace_s(task, events))


def _grace_s(task: Task, events: Sequence[Event]) -> float:
    """How long the training may go on before the next attempt is asked for."""
    facts = StopFacts(
        executor=task.environment.executor,
        job=query_job_fact(task, events),
        restarts=task.environment.restarts,
        kill_wait_s=query_kill_wait_s(task),
        lead_s=task.environment.lead_s,
        signals=frozenset(),
        save_s=slowest_save_s(events),
    )
    return seconds_to_secure(facts, now=dt.datetime.now(dt.UTC))


def _ask_again(task: Task, events: Sequence[Event], final: Event) -> int:
    """The entry may have been killed between its final event and its request to SLURM."""
    cause = Cause(final.get("cause", Cause.KILLED))
    is_sure = ensure_next_attempt(task, events, attempt=final.attempt, cause=cause, may_pause=True)
    return 0 if is_sure else 1


if __name__ == "__main__":
    survive_full_disk()
    sys.exit(main(sys.argv[1]))
