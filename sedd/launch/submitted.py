"""Which specs have been submitted already: the run folders themselves are the ledger."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sedd.errors import RunError
from sedd.launch import lock
from sedd.rundir.attempts import is_cancelled, parse_attempts
from sedd.rundir.events import Event, read_events
from sedd.rundir.layout import RunDir, read_manifest
from sedd.spec.task import TaskSpec

PATIENCE_S = 120.0
"""For somebody else's submission, the largest sweep's too."""


@dataclass(frozen=True, slots=True)
class Known:
    """A run of a spec that is asked for again."""

    run: RunDir
    standing: str
    """What its own events say: `waiting to start`, `in attempt 2`, `completed`."""


def find_submitted(experiments: Sequence[TaskSpec], runs: Path) -> list[Known]:
    """Runs of exactly these specs that are under way or completed; cancelled and given up ones do not count."""
    hashes = {experiment.hash(): experiment.name for experiment in experiments}
    beginnings = {spec_hash[:8] for spec_hash in hashes}
    found = []
    for name in sorted(set(hashes.values())):
        for run in _with_beginning(runs / name, beginnings):
            standing = describe_progress(read_events(run.events))
            if standing and _spec_hash(run) in hashes:
                found.append(Known(run, standing))
    return found


@contextlib.contextmanager
def one_submission(names: Iterable[str], runs: Path) -> Iterator[None]:
    """Keep other submissions of these names waiting: between our look into the ledger and our entry lies nobody's.

    Raises:
        RunError: another one does not end, or the runs folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        for name in sorted(set(names)):  # in one order, lest two of us wait for each other
            stack.enter_context(lock.alone(runs / name / ".submit.lock", patience_s=PATIENCE_S))
        yield


def describe_progress(said: Sequence[Event]) -> str | None:
    """What a run's events say of it, in words; None when a user or the retry policy has ended it."""
    moves = [e for e in said if e.event not in ("preflight", "checkpoint")]
    last = moves[-1].event if moves else ""
    if last == "completed":
        return "completed"
    if is_cancelled(said) or last == "gave_up" or not moves:
        return None
    attempts = parse_attempts(said)
    if not attempts or last == "submitted":
        return "waiting to start"
    return "waiting for its next attempt" if last == "requeued" else f"in attempt {attempts[-1].number}"


def require_not_submitted(experiments: Sequence[TaskSpec], runs: Path) -> None:
    """Refuse a second submission of the same spec. Raises: RunError that names the first one."""
    known = find_submitted(experiments, runs)
    if not known:
        return
    newest = known[-1]
    if len(experiments) == 1:
        what = f"this spec is submitted already: run {newest.run.name}/{newest.run.id}, {newest.standing}"
    else:
        what = (
            f"{len(known)} of these {len(experiments)} runs are submitted already, the newest {newest.run.id}"
        )
    raise RunError(
        what,
        hint=f"follow it: sedd status {newest.run.id}; submit another of the same: sedd submit --resubmit …",
    )


def _with_beginning(folder: Path, beginnings: set[str]) -> Iterator[RunDir]:
    """Runs in a folder whose id carries one of the hashes, oldest first, found by name alone."""
    try:
        names = sorted(entry.name for entry in os.scandir(folder))
    except OSError:
        return
    for name in names:
        parts = name.split("-")
        if len(parts) >= 3 and parts[2] in beginnings and (folder / name / "manifest.json").exists():
            yield RunDir(folder / name)


def _spec_hash(run: RunDir) -> str | None:
    try:
        value = read_manifest(run).get("spec_hash")
    except RunError:
        return None
    return str(value) if value else None
