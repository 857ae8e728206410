"""Run folders → batch script and pickles as submitit lays them out → sbatch → job ids."""

import datetime as dt
import os
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any, TypeVar

from sedd.cluster.control import scancel
from sedd.cluster.identity import Mark, ProvenJob, new_mark, parse_mark, query_cluster_name
from sedd.cluster.jobs import array_of
from sedd.cluster.sbatch import SubmissionRefusedError, sbatch
from sedd.cluster.scontrol import query_jobs
from sedd.cluster.site import query_config
from sedd.cluster.squeue import parse_comments, query_comments
from sedd.cluster.users import user_name
from sedd.errors import ClusterError, RunError
from sedd.launch.pickled_job import job_of
from sedd.launch.resources import Parameters, changes_by_site, render_sbatch
from sedd.launch.unconfirmed import find_notes, noted, one_at_a_time, remove_leftovers
from sedd.rundir.events import append_event, read_events
from sedd.rundir.layout import RunDir
from sedd.spec.load import load_resolved
from sedd.waiting import end_waits

_THREADS = 32
_PROOF_TIMEOUT_S = 10.0

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
    runs: Sequence[RunDir],
    parameters: Parameters,
    *,
    folder: Path,
    continues: str | None = None,
    is_wanted: Callable[[RunDir], bool] = lambda _: True,
) -> list[str]:
    """Submit runs as one job, or as one array; returns the job ids of those that are wanted when it is their turn.

    Who is killed between sbatch and the events leaves a note (`unconfirmed.py`) with the token in the job's comment.

    Raises:
        SubmissionRefusedError: SLURM refused. ClusterError: whether there is a job now is not known.
        RunError: submitit's files cannot be written, or an event.
    """
    mark = new_mark(folder.parent, continues=continues)
    with one_at_a_time(folder) as lock:
        wanted = [run for run in runs if is_wanted(run)]
        if not wanted:
            return []
        with noted(folder, mark.token, wanted):
            named = _submit_chunk(wanted, with_comment(parameters, mark), folder, lock)
            proof = proof_of(named[0], mark, parameters)
            pairs = list(zip(wanted, named, strict=True))
            in_threads(lambda pair: record_submitted(*pair, proof=proof), pairs)
    return named


def confirm_submissions(folder: Path) -> None:
    """Find out what became of submissions that were interrupted, and record those that SLURM has taken.

    A job whose file for submitit is missing gets it: it waits a minute for it. What SLURM does not know was not
    submitted, or has ended before it could begin. Jobs of runs that were cancelled meanwhile are ended.
    `folder` holds submitit's files.

    Raises:
        SlurmUnreachableError, ClusterError: nothing is known. RunError: an event cannot be written.
    """
    if not find_notes(folder):
        return
    with one_at_a_time(folder):
        notes = find_notes(folder)
        comments = parse_comments(query_comments(str(folder.stat().st_uid))) if notes else {}
        for note in notes:
            jobs = note.jobs(comments)
            scancel([ProvenJob(job_id=job_id) for run, job_id in jobs if run in note.unwanted])
            for run, job_id in jobs:
                if run in note.unwanted:
                    continue
                if any(e.get("job_id") == job_id for e in read_events(run.events) if e.event == "submitted"):
                    continue
                _make_startable(run, folder, job_id)
                mark = parse_mark(comments[job_id])
                assert mark is not None, "it was found by its mark"
                record_submitted(run, job_id, proof=proof_of(job_id, mark))
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


def with_comment(parameters: Parameters, mark: Mark) -> Parameters:
    """Parameters of jobs that carry the mark, beside what the profile wants in the comment."""
    options = dict(parameters.get("additional_parameters", {}))
    return parameters | {"additional_parameters": options | {"comment": mark.comment(options.get("comment"))}}


def is_startable(folder: Path, job_id: str) -> bool:
    """Whether submitit's file of a job is in place: its last step after sbatch, without which the job cannot start."""
    from submitit.core.utils import JobPaths

    return bool(JobPaths(folder, job_id=job_id).submitted_pickle.exists())


def _make_startable(run: RunDir, folder: Path, job_id: str) -> None:
    from submitit.core.utils import JobPaths

    if not is_startable(folder, job_id):
        minutes = load_resolved(run.spec).resources.walltime // 60
        _pickle(run, JobPaths(folder, job_id=job_id).submitted_pickle, minutes)


def record_submitted(run: RunDir, job_id: str, *, proof: Mapping[str, Any]) -> None:
    """Note in the run folder that a SLURM job is to train it; `proof` (`proof_of`) tells the job from others."""
    append_event(
        run.events,
        "submitted",
        attempt=max((event.attempt for event in read_events(run.events)), default=0),
        now=dt.datetime.now(dt.UTC),
        job_id=job_id,
        executor="slurm",
        host=socket.gethostname(),
        **proof,
    )


def proof_of(job_id: str, mark: Mark, parameters: Parameters | None = None) -> dict[str, Any]:
    """Fields of a `submitted` event that tell its job from others: token, user, and what SLURM answers about it now.

    `changed` says what became of the `parameters` on the way: by a wrapper of sbatch, a plugin of SLURM.
    """
    proof: dict[str, Any] = {"token": mark.token, "user": user_name(os.geteuid())}
    if mark.continues:
        proof["continues"] = mark.continues
    try:
        job = next(iter(query_jobs(array_of(job_id), timeout_s=_PROOF_TIMEOUT_S)), None)
        proof["cluster"] = query_cluster_name(timeout_s=_PROOF_TIMEOUT_S)
    except ClusterError:
        return proof  # the token is enough
    if job is not None and job.submitted_at is not None:
        proof["submitted_at"] = int(job.submitted_at.timestamp())
    if job is not None and parameters is not None and (changed := list(changes_by_site(parameters, job))):
        proof["changed"] = changed
    return proof


def in_threads(act: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """`act` on every item, in order of the items: a thousand run folders wait for the disk side by side.

    Raises: what the first failing item raised, after all have ended. KeyboardInterrupt: those that had begun ended,
        without waiting for locks.
    """
    if len(items) == 1:
        return [act(items[0])]  # in the main thread, where Ctrl-C ends any wait
    contexts = [copy_context() for _ in items]
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            return list(pool.map(lambda context, item: context.run(act, item), contexts, items))
        except KeyboardInterrupt:
            end_waits()
            raise


def split(runs: Sequence[RunDir], *, largest: int) -> list[Sequence[RunDir]]:
    """Runs in arrays whose indices stay below the site's MaxArraySize."""
    return [runs[start : start + largest] for start in range(0, len(runs), largest)]


def share_out(parameters: Parameters, arrays: int) -> Parameters:
    """Parameters whose limit on tasks at a time is a share of it: SLURM knows one only for each of several arrays."""
    limit = parameters.get("array_parallelism")
    return dict(parameters) if limit is None else parameters | {"array_parallelism": max(1, limit // arrays)}
