"""Run folders → batch script and pickles as submitit lays them out → sbatch → job ids."""

import datetime as dt
import secrets
import socket
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from sedd.cluster.sbatch import SubmissionRefusedError, sbatch
from sedd.cluster.site import query_config
from sedd.cluster.squeue import parse_comments, query_comments
from sedd.errors import RunError
from sedd.launch.pickled_job import job_of
from sedd.launch.resources import Parameters, render_sbatch
from sedd.launch.unconfirmed import find_notes, noted, one_at_a_time, remove_leftovers
from sedd.rundir.events import append_event, read_events
from sedd.rundir.layout import RunDir
from sedd.spec.load import load_resolved

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
    shared = share_out(parameters, len(chunks))
    ids: list[str] = []
    for chunk in chunks:
        ids += submit_array(chunk, shared, folder=folder, continues=continues)
    return ids


def submit_array(
    runs: Sequence[RunDir], parameters: Parameters, *, folder: Path, continues: str | None = None
) -> list[str]:
    """Submit runs as one job, or as one array; returns the job id of each.

    Who is killed between sbatch and the events leaves a note (`unconfirmed.py`) with the token in the job's comment.

    Raises:
        SubmissionRefusedError: SLURM refused. ClusterError: whether there is a job now is not known.
        RunError: submitit's files cannot be written, or an event.
    """
    token = secrets.token_hex(8)
    with one_at_a_time(folder) as lock, noted(folder, token, runs):
        named = _submit_chunk(runs, _with_token(parameters, token), folder, lock)
        in_threads(
            lambda pair: record_submitted(*pair, token=token, continues=continues),
            list(zip(runs, named, strict=True)),
        )
    return named


def confirm_submissions(folder: Path) -> None:
    """Find out what became of submissions that were interrupted, and record those that SLURM has taken.

    A job whose file for submitit is missing gets it: it waits a minute for it. What SLURM does not know was not
    submitted, or has ended before it could begin. `folder` holds submitit's files.

    Raises:
        SlurmUnreachableError, ClusterError: nothing is known. RunError: an event cannot be written.
    """
    if not find_notes(folder):
        return
    with one_at_a_time(folder):
        notes = find_notes(folder)
        comments = parse_comments(query_comments(str(folder.stat().st_uid))) if notes else {}
        for note in notes:
            for run, job_id in note.jobs(comments):
                if any(e.get("job_id") == job_id for e in read_events(run.events) if e.event == "submitted"):
                    continue
                _make_startable(run, folder, job_id)
                record_submitted(run, job_id, token=note.token, continues=None)
            note.path.unlink(missing_ok=True)
        remove_leftovers(folder)


def _submit_chunk(runs: Sequence[RunDir], parameters: Parameters, folder: Path, lock: int) -> list[str]:
    """Submit one job, or one array; returns the job id of each run.

    Not by submitit's executor: it takes the first "job N" in whatever sbatch prints for the job's id.
    """
    from submitit.core.utils import JobPaths

    try:
        files = JobPaths.get_first_id_independent_folder(folder)
        files.mkdir(parents=True, exist_ok=True)
        pickles = [files / f"{uuid.uuid4().hex}.pkl" for _ in runs]
        for run, path in zip(runs, pickles, strict=True):
            _pickle(run, path, parameters["time"])
        script = files / f".submission_file_{uuid.uuid4().hex}.sh"
        script.write_text(render_sbatch(parameters, submitit=folder, tasks=len(runs)), encoding="utf-8")
        job_id = sbatch(script, keeps_open=[lock])
        named = [job_id] if len(runs) == 1 else [f"{job_id}_{task}" for task in range(len(runs))]
        for name, path in zip(named, pickles, strict=True):
            JobPaths(folder, job_id=name).move_temporary_file(path, "submitted_pickle")
        JobPaths(folder, job_id=job_id).move_temporary_file(script, "submission_file", keep_as_symlink=True)
    except SubmissionRefusedError:
        remove_leftovers(folder)
        raise
    except OSError as e:
        raise RunError(f"cannot write {e.filename or f'into {folder}'}: {e.strerror or e}") from e
    return named


def _pickle(run: RunDir, path: Path, minutes: int) -> None:
    from submitit.core.utils import DelayedSubmission

    delayed = DelayedSubmission(job_of(run))
    delayed.set_timeout(minutes, max_num_timeout=0)
    delayed.dump(path)


def _with_token(parameters: Parameters, token: str) -> Parameters:
    """The parameters with a comment by which the job is found again."""
    sbatch_options = dict(parameters.get("additional_parameters", {}))
    comment = "; ".join(filter(None, [f"sedd token={token}", sbatch_options.get("comment")]))
    return parameters | {"additional_parameters": sbatch_options | {"comment": comment}}


def is_startable(folder: Path, job_id: str) -> bool:
    """Whether submitit's file of a job is in place: its last step after sbatch, without which the job cannot start."""
    from submitit.core.utils import JobPaths

    return bool(JobPaths(folder, job_id=job_id).submitted_pickle.exists())


def _make_startable(run: RunDir, folder: Path, job_id: str) -> None:
    from submitit.core.utils import JobPaths

    if not is_startable(folder, job_id):
        minutes = load_resolved(run.spec).resources.walltime // 60
        _pickle(run, JobPaths(folder, job_id=job_id).submitted_pickle, minutes)


def record_submitted(run: RunDir, job_id: str, *, continues: str | None, token: str | None = None) -> None:
    """Note in the run folder that a SLURM job, whose comment holds the token, is to train it."""
    append_event(
        run.events,
        "submitted",
        attempt=max((event.attempt for event in read_events(run.events)), default=0),
        now=dt.datetime.now(dt.UTC),
        job_id=job_id,
        executor="slurm",
        host=socket.gethostname(),
        **({"token": token} if token else {}),
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
