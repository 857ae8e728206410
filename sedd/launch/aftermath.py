"""`python -m sedd.launch.aftermath SUBMITIT_FOLDER`: the last line of a batch script, after srun has returned.

Its exit code is the job's. When every job entry was killed before rank 0 could decide, it decides here.
"""

import os
import signal
import sys
from pathlib import Path

from submitit.core.utils import DelayedSubmission, JobPaths

from sedd.launch.again import go_on
from sedd.launch.attempt import Task
from sedd.launch.causes import Ending, in_newest_attempt
from sedd.launch.entry import make_task
from sedd.launch.place import slurm_place
from sedd.launch.processes import signals_held
from sedd.launch.settle import settle
from sedd.launch.supervisor import begin_attempt, find_start, is_over
from sedd.launch.words import LAST_WORDS
from sedd.rundir.attempts import Cause
from sedd.rundir.events import Event, read_events
from sedd.rundir.layout import RunDir


def main(folder: str) -> int:
    """Finish what the job entries of this SLURM job left undone; returns the job's exit code."""
    place = slurm_place(os.environ)
    pickled = DelayedSubmission.load(JobPaths(folder, job_id=place.job_id).submitted_pickle)
    with signals_held():
        return finish(make_task(RunDir(Path(pickled.function.path)), place))


def finish(task: Task) -> int:
    """Make sure that the attempt of this start of the job has its last word, and that SLURM has been asked."""
    said = read_events(task.run.events)
    if is_over(said):
        return 0
    if find_start(said, job_id=task.place.job_id, restarts=task.place.restarts) is None:
        begin_attempt(task)  # its entry died too early to count itself
        said = read_events(task.run.events)
    word = next((e for e in reversed(in_newest_attempt(said)) if e.event in LAST_WORDS), None)
    if word is None:
        killed = Ending(exit_code=-signal.SIGKILL, signals=frozenset(), time_left_s=None, rank=0)
        return settle(task, killed).exit_code
    if word.event == "requeued":
        return _ask_again(task, word)
    return 1 if word.event == "gave_up" else 0


def _ask_again(task: Task, word: Event) -> int:
    """The entry may have been killed between its last word and its request to SLURM."""
    cause = Cause(word.get("cause", Cause.KILLED))
    return 0 if go_on(task, (), attempt=word.attempt, cause=cause) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
