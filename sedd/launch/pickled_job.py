"""What submitit pickles, by reference: a class that holds one path. On the node it becomes the job entry, by exec."""

import importlib
import os
import signal
import sys
from pathlib import Path
from typing import NoReturn, cast

from sedd.launch.protocol import JOB_ENTRY, names_of
from sedd.rundir.layout import RunDir

STOP_SIGNALS = (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT, signal.SIGCONT)
"""What the world sends to a job that shall leave. SIGCONT precedes SIGTERM and asks for nothing by itself."""


class Job:
    """A run; everything about it is read in its folder when the job starts."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __call__(self) -> NoReturn:
        """Replace this process by the job entry: srun and SLURM read nothing but its exit code.

        The signals stay blocked across exec, so that one which arrives before the entry's handlers waits for them.
        """
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        sys.stdout.flush()
        sys.stderr.flush()
        os.execv(sys.executable, [sys.executable, "-u", "-m", JOB_ENTRY, self.path])


def job_of(run: RunDir) -> Job:
    """What to pickle for this run: an object of the class that its frozen code knows."""
    return cast(Job, importlib.import_module(names_of(run).pickled_job).Job(str(run.path)))


def run_of_job(folder: Path, job_id: str) -> RunDir:
    """The run of a submitted job; `folder` holds submitit's files. Raises: OSError when its file is gone."""
    from submitit.core.utils import DelayedSubmission, JobPaths

    return RunDir(
        Path(DelayedSubmission.load(JobPaths(folder, job_id=job_id).submitted_pickle).function.path)
    )
