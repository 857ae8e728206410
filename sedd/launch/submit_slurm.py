"""Run folders → submitit → job ids. The only file besides `detached.py` that talks to submitit's executors."""

import contextlib
import datetime as dt
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sedd.cluster.site import query_config
from sedd.errors import ClusterError, RunError
from sedd.launch.pickled_job import job_of
from sedd.launch.resources import Parameters
from sedd.rundir.events import append_event, read_events
from sedd.rundir.layout import RunDir

_KEPT = ("SLURM_CONF",)
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
    import submitit
    from submitit.core.utils import FailedJobError, FailedSubmissionError

    chunks = split(runs, largest=query_config().max_array_size if len(runs) > 1 else 1)
    ids: list[str] = []
    try:
        asked = share_out(parameters, len(chunks))
        executor = submitit.SlurmExecutor(folder=folder, python=asked.pop("python"))
        executor.update_parameters(**asked)
        with outside_any_job():
            for chunk in chunks:
                with executor.batch():
                    jobs = [executor.submit(job_of(run)) for run in chunk]
                named = [str(job.job_id) for job in jobs]
                in_threads(
                    lambda pair: record_submitted(*pair, continues=continues),
                    list(zip(chunk, named, strict=True)),
                )
                ids += named
    except (FailedJobError, FailedSubmissionError) as e:
        raise ClusterError(
            first_line(str(e)), hint="sedd preflight SPEC --cluster PROFILE looks closer"
        ) from e
    except OSError as e:
        raise RunError(f"cannot write {e.filename or f'into {folder}'}: {e.strerror or e}") from e
    except RuntimeError as e:
        raise ClusterError(f"cannot submit to SLURM: {first_line(str(e))}") from e
    return ids


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


def first_line(text: str) -> str:
    """The first line with something on it."""
    return next((line.strip() for line in text.splitlines() if line.strip()), "no reason given")


@contextlib.contextmanager
def outside_any_job() -> Iterator[None]:
    """Hide the variables of the job that we are in, if any: sbatch would take them for the new job's wishes."""
    if "SLURM_JOB_ID" not in os.environ:
        yield
        return
    hidden = {k: v for k, v in os.environ.items() if k.startswith(("SLURM", "SRUN_")) and k not in _KEPT}
    for name in hidden:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(hidden)


def share_out(parameters: Parameters, arrays: int) -> Parameters:
    """Parameters whose limit on tasks at a time is a share of it: SLURM knows one only for each of several arrays."""
    limit = parameters.get("array_parallelism")
    return dict(parameters) if limit is None else parameters | {"array_parallelism": max(1, limit // arrays)}
