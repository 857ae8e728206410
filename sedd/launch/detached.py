"""`python -m sedd.launch.detached RUN…`: hand runs to submitit's local executor, away from any terminal.

submitit starts a job's controller as a child in the caller's session: Ctrl-C or a closed terminal would end the job.
`sedd submit` therefore starts this program in a session of its own, with the frozen code on its path.
"""

import datetime as dt
import os
import socket
import sys
from pathlib import Path

import submitit

from sedd.cluster.local import find_local
from sedd.launch.job import Job
from sedd.launch.resources import local_parameters
from sedd.rundir.events import append_event, read_events
from sedd.rundir.layout import RunDir
from sedd.spec.load import load_resolved


def submit_here(run: RunDir) -> None:
    """Start the run's controller and say so. Raises: SpecError, RunError; ValueError of submitit."""
    executor = submitit.LocalExecutor(folder=run.submitit)
    executor.update_parameters(**local_parameters(load_resolved(run.spec), os.environ))
    pid = int(executor.submit(Job(str(run.path))).job_id)
    controller = find_local(pid)
    host = socket.gethostname()
    append_event(
        run.events,
        "submitted",
        attempt=max((event.attempt for event in read_events(run.events)), default=0),
        now=dt.datetime.now(dt.UTC),
        job_id=controller.job_id if controller else f"{host}:{pid}:0",
        executor="local",
        host=host,
    )


if __name__ == "__main__":
    for path in sys.argv[1:]:
        submit_here(RunDir(Path(path)))
