"""`python -m sedd.job.batch_end SUBMITIT_FOLDER`: the last line of a batch script, after srun has returned.

Its exit code is the job's. When every job entry was killed before rank 0 could decide, it decides here.
"""

import os
import signal
import sys
from pathlib import Path

from sedd.errors import DiskFullError
from sedd.job.attempt import STOP_GRACE_S, Task
from sedd.job.causes import Ending, in_newest_attempt
from sedd.job.entry import make_task
from sedd.job.environment import read_slurm_environment
from sedd.job.final_events import FINAL_EVENTS
from sedd.job.finish_attempt import finish_attempt, finish_unrecorded
from sedd.job.next_attempt import ensure_next_attempt
from sedd.job.processes import signals_held
from sedd.job.stdout import survive_full_disk
from sedd.job.supervisor import begin_attempt, find_start, is_over
from sedd.launch.local_processes import end_training
from sedd.launch.pickled_job import run_of_job
from sedd.rundir.attempts import Cause
from sedd.rundir.events import Event, read_events
from sedd.rundir.fence import SupersededError, require_newest


def main(folder: str) -> int:
    """Finish what the job entries of this SLURM job left undone; returns the job's exit code."""
    place = read_slurm_environment(os.environ)
    with signals_held():
        try:
            return finish(make_task(run_of_job(Path(folder), place.job_id), place))
        except SupersededError as e:
            print(e.message, flush=True)
            return 0


def finish(task: Task) -> int:
    """Make sure that the attempt of this start of the job has its last word, and that SLURM has been asked.

    Raises:
        SupersededError: this was a lost node's job; another has taken the run over.
    """
    said = read_events(task.run.events)
    if is_over(said):
        return 0
    start = find_start(said, job_id=task.place.job_id, restarts=task.place.restarts)
    if start is None:
        try:
            attempt = begin_attempt(task).attempt  # its entry died too early to count itself
        except DiskFullError as e:
            print(e.message, flush=True)
            return finish_unrecorded(task).exit_code
        said = read_events(task.run.events)
    else:
        attempt = start.attempt
    require_newest(task.run.events, attempt=attempt)
    word = next((e for e in reversed(in_newest_attempt(said)) if e.event in FINAL_EVENTS), None)
    end_training(task.run, attempt=attempt, grace_s=STOP_GRACE_S)
    if word is None:
        killed = Ending(exit_code=-signal.SIGKILL, signals=frozenset(), time_left_s=None, rank=0)
        return finish_attempt(task, killed, attempt=attempt).exit_code
    if word.event == "requeued":
        return _ask_again(task, word)
    return 1 if word.event == "gave_up" else 0


def _ask_again(task: Task, word: Event) -> int:
    """The entry may have been killed between its last word and its request to SLURM."""
    cause = Cause(word.get("cause", Cause.KILLED))
    return 0 if ensure_next_attempt(task, (), attempt=word.attempt, cause=cause) else 1


if __name__ == "__main__":
    survive_full_disk()
    sys.exit(main(sys.argv[1]))
