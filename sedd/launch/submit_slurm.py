"""Run folders → batch script and pickles as submitit lays them out → sbatch → job ids."""

import datetime as dt
import socket
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sedd.cluster.sbatch import sbatch
from sedd.cluster.site import query_config
from sedd.errors import RunError
from sedd.launch.pickled_job import job_of
from sedd.launch.resources import Parameters, render_sbatch
from sedd.rundir.events import append_event, read_events
from sedd.rundir.layout import RunDir

_THREADS = 32

Item = TypeVar("Item")
Result = TypeVar("Result")


def submit_slurm(
    runs: Sequence[RunDir], parameters: Parameters, *, folder: Path, continues: str | None = None
) -> list[str]:
    """Submit runs to SLURM as one job, or as arrays no larger than the site allows; returns their job ids.

    Each run gets its `submitted` event as soon as its array is accepted; `continues` names the job that a new job of
    the same run takes over from.

    Raises:
        ClusterError: sbatch refused; runs of earlier arrays stay submitted.
        RunError: submitit's files cannot be written, or an event.
    """
    chunks = split(runs, largest=query_config().max_array_size if len(runs) > 1 else 1)
    ids: list[str] = []
    shared = share_out(parameters, len(chunks))
    for chunk in chunks:
        named = _submit_chunk(chunk, shared, folder)
        in_threads(
            lambda pair: record_submitted(*pair, continues=continues), list(zip(chunk, named, strict=True))
        )
        ids += named
    return ids


def _submit_chunk(runs: Sequence[RunDir], parameters: Parameters, folder: Path) -> list[str]:
    """Submit one job, or one array; returns the job id of each run.

    Not by submitit's executor: it takes the first "job N" in whatever sbatch prints for the job's id.
    """
    from submitit.core.utils import DelayedSubmission, JobPaths

    try:
        files = JobPaths.get_first_id_independent_folder(folder)
        files.mkdir(parents=True, exist_ok=True)
        pickles = [files / f"{uuid.uuid4().hex}.pkl" for _ in runs]
        for run, path in zip(runs, pickles, strict=True):
            delayed = DelayedSubmission(job_of(run))
            delayed.set_timeout(parameters["time"], max_num_timeout=0)
            delayed.dump(path)
        script = files / f".submission_file_{uuid.uuid4().hex}.sh"
        script.write_text(render_sbatch(parameters, submitit=folder, tasks=len(runs)), encoding="utf-8")
        job_id = sbatch(script)
        named = [job_id] if len(runs) == 1 else [f"{job_id}_{task}" for task in range(len(runs))]
        for name, path in zip(named, pickles, strict=True):
            JobPaths(folder, job_id=name).move_temporary_file(path, "submitted_pickle")
        JobPaths(folder, job_id=job_id).move_temporary_file(script, "submission_file", keep_as_symlink=True)
    except OSError as e:
        raise RunError(f"cannot write {e.filename or f'into {folder}'}: {e.strerror or e}") from e
    return named


def is_startable(folder: Path, job_id: str) -> bool:
    """Whether submitit's file of a job is in place: its last step after sbatch, without which the job cannot start."""
    from submitit.core.utils import JobPaths

    return bool(JobPaths(folder, job_id=job_id).submitted_pickle.exists())


def record_submitted(run: RunDir, job_id: str, *, continues: str | None) -> None:
    """Note in the run folder that a SLURM job is to train it."""
    append_event(
        run.events,
        "submitted",
        attempt=max((event.attempt for event in read_events(run.events)), default=0),
        now=dt.datetime.now(dt.UTC),
        job_id=job_id,
        executor="slurm",
        host=socket.gethostname(),
        **({"continues": continues} if continues else {}),
    )


def in_threads(act: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`act` on every item, in order of the items: a thousand run folders wait for the disk side by side.

    Raises: what the first failing item raised, after all have ended.
    """
    with ThreadPoolExecutor(_THREADS) as pool:
        return list(pool.map(act, items))


def split(runs: Sequence[RunDir], *, largest: int) -> list[Sequence[RunDir]]:
    """Runs in arrays whose indices stay below the site's MaxArraySize."""
    return [runs[start : start + largest] for start in range(0, len(runs), largest)]


def share_out(parameters: Parameters, arrays: int) -> Parameters:
    """Parameters whose limit on tasks at a time is a share of it: SLURM knows one only for each of several arrays."""
    limit = parameters.get("array_parallelism")
    return dict(parameters) if limit is None else parameters | {"array_parallelism": max(1, limit // arrays)}
