"""Submissions whose outcome is not recorded: sbatch was called, and its caller killed before every run had its event.

Before sbatch a note is written: the token in the job's comment, and the runs in the order of the array's tasks. It is
removed when all have their `submitted` event. A note that is left says what to look for in the queue.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sedd.cluster.command import SlurmMissingError
from sedd.cluster.jobs import array_of
from sedd.cluster.sbatch import SubmissionRefusedError
from sedd.errors import RunError
from sedd.rundir import lock
from sedd.rundir.atomic import write_text
from sedd.rundir.layout import RunDir, read_manifest

_PATIENCE_S = 150.0
"""For another submission from the same folder; sbatch itself may retry for two minutes."""
_NOTES = "unconfirmed-*.json"
_LEFTOVER = re.compile(r"[0-9a-f]{32}\.pkl|\.submission_file_[0-9a-f]{32}\.sh")


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """What was about to be submitted."""

    path: Path
    token: str
    runs: tuple[RunDir, ...]
    unwanted: tuple[RunDir, ...] = ()
    """Those that were cancelled while SLURM did not say whether it has a job for them."""

    def jobs(self, comments: Mapping[str, str]) -> list[tuple[RunDir, str]]:
        """The runs that are in the queue, with their job ids; `comments` by job id, array tasks each."""
        ours = [job_id for job_id, comment in comments.items() if f"token={self.token}" in comment]
        array = array_of(ours[0]) if ours else ""
        named = [array] if len(self.runs) == 1 else [f"{array}_{task}" for task in range(len(self.runs))]
        return [(run, job_id) for run, job_id in zip(self.runs, named, strict=True) if job_id in ours]


def submitit_folders(run: RunDir) -> list[Path]:
    """Where submitit's files of the run's jobs lie: its sweep's, with which it is submitted first, and its own."""
    sweep = read_manifest(run).get("sweep")
    return [*([run.path.parent / str(sweep) / "submitit"] if sweep else []), run.submitit]


@contextlib.contextmanager
def one_at_a_time(folder: Path) -> Iterator[int]:
    """Keep other submissions from this folder waiting; yields the lock's descriptor, for sbatch to hold, too.

    Raises:
        RunError: another one does not end, or the folder cannot be written.
    """
    with lock.alone(folder / ".submit.lock", patience_s=_PATIENCE_S) as handle:
        yield handle


@contextlib.contextmanager
def noted(folder: Path, token: str, runs: Sequence[RunDir]) -> Iterator[None]:
    """Keep a note while the runs are submitted; it stays unless they are, or it is certain that no job came of it.

    Raises:
        RunError: it cannot be written.
    """
    path = folder / f"unconfirmed-{token}.json"
    _write(Note(path=path, token=token, runs=tuple(runs)))
    try:
        yield
    except (SubmissionRefusedError, SlurmMissingError):
        path.unlink(missing_ok=True)
        raise
    path.unlink(missing_ok=True)


def find_notes(folder: Path) -> list[Note]:
    """The notes of submissions from this folder that were interrupted, or are under way."""
    notes = []
    for path in sorted(folder.glob(_NOTES)):
        try:
            content = json.loads(path.read_bytes())
        except (OSError, ValueError):
            continue  # removed just now: notes are written at once
        runs, unwanted = (
            tuple(RunDir(Path(text)) for text in content.get(key, ())) for key in ("runs", "unwanted")
        )
        notes.append(Note(path=path, token=content["token"], runs=runs, unwanted=unwanted))
    return notes


def mark_unwanted(folder: Path, run: RunDir) -> None:
    """Note that a job that an interrupted submission has made for the run is to be ended. Others must be kept waiting.

    Raises:
        RunError: it cannot be written.
    """
    for note in find_notes(folder):
        if run in note.runs and run not in note.unwanted:
            _write(replace(note, unwanted=(*note.unwanted, run)))


def _write(note: Note) -> None:
    content = {"token": note.token, "runs": [str(run.path) for run in note.runs]}
    if note.unwanted:
        content["unwanted"] = [str(run.path) for run in note.unwanted]
    try:
        write_text(note.path, json.dumps(content))
    except OSError as e:
        raise RunError(f"cannot write into {note.path.parent}: {e.strerror or e}") from e


def remove_leftovers(folder: Path) -> None:
    """Remove what a submission that came to nothing left of submitit's files. Others must be kept waiting."""
    for path in folder.iterdir():
        if _LEFTOVER.fullmatch(path.name) and not path.is_symlink():
            path.unlink(missing_ok=True)
