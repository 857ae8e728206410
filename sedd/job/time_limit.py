"""The warning before a time limit, where the batch script's comes too late.

`--signal` is part of the script, and a requeued job keeps its script: it knows nothing of what saving has taken since.
"""

import dataclasses
import datetime as dt

from sedd.errors import ClusterError
from sedd.job.attempt import Task
from sedd.job.causes import time_left_s
from sedd.job.own_job import query_own_fact
from sedd.launch.resources import granted_walltime_s, read_manifest_profile, signal_lead_s
from sedd.rundir.attempts import slowest_save_s
from sedd.rundir.events import read_events


def with_time_limit(task: Task, *, now: dt.datetime) -> Task:
    """`task`, with a limit that its entry keeps itself where SLURM's warning leaves too little time to save."""
    events = read_events(task.run.events)
    save_s = slowest_save_s(events)
    walltime_s = granted_walltime_s(task.experiment, read_manifest_profile(task.run))
    if save_s is None or (lead_s := signal_lead_s(walltime_s, save_s)) <= task.environment.lead_s:
        return task
    try:
        job = query_own_fact(task, events, timeout_s=10)
    except ClusterError as e:
        print(f"when the time limit is SLURM does not say: {e.message}", flush=True)
        return task
    left_s = time_left_s(job, now) if job else None
    if left_s is None:
        return task
    environment = dataclasses.replace(task.environment, lead_s=float(lead_s))
    return dataclasses.replace(task, environment=environment, limit_s=max(0.0, left_s - lead_s))
