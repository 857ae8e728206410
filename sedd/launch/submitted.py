"""Which specs have been submitted already: the run folders themselves are the ledger."""

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sedd.errors import RunError
from sedd.launch.liveness import find_jobless
from sedd.rundir import lock
from sedd.rundir.attempts import is_cancelled, is_paused, is_stopped, is_unsubmitted, parse_attempts
from sedd.rundir.events import STAYS, Event, read_events, require_undamaged
from sedd.rundir.layout import ELSEWHERE, RunDir, read_manifest, spec_hashes
from sedd.rundir.owner import other_owner, own_runs
from sedd.spec.task import TaskSpec
from sedd.units import counted

STOPPED = "stopped by rule"
"""What is said of a run that its halving sweep does without."""
PATIENCE_S = 120.0
"""For somebody else's submission, the largest sweep's too."""


@dataclass(frozen=True, slots=True)
class Known:
    """A run of a spec that is asked for again."""

    run: RunDir
    standing: str
    """What its own events say: `waiting to start`, `in attempt 2`, `completed`."""
    spec_hash: str


def find_submitted(experiments: Sequence[TaskSpec], runs: Path, *, of_others: bool = False) -> list[Known]:
    """Runs of exactly these specs that are under way or completed; cancelled and given up ones do not count.

    This user's, or those `of_others` in the same folder, which this user could neither follow up nor end.
    """
    hashes = {experiment.hash(): experiment.name for experiment in experiments}
    beginnings = {spec_hash[:8] for spec_hash in hashes}
    found = []
    for name in sorted(set(hashes.values())):
        for run in _with_beginning(runs / name, beginnings):
            if (other_owner(run) is not None) is not of_others:
                continue
            standing = describe_progress(read_events(run.events))
            asked = [each for each in spec_hashes(run) if each in hashes]
            if standing and asked:
                found.append(Known(run, standing, asked[0]))
    return found


def find_all_of(experiment: TaskSpec, runs: Path) -> list[RunDir]:
    """All runs that were asked for with exactly this spec, newest first, whatever became of them."""
    wanted = experiment.hash()
    found = _with_beginning(runs / experiment.name, {wanted[:8]})
    return [run for run in reversed(list(found)) if wanted in spec_hashes(run)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """What an earlier submission of the same specs has left: runs that exist and are not submitted yet.

    Attributes:
        folder: the sweep's, or that of a single run.
        runs: run folders there, by the number of their spec in the order.
        waiting: numbers of those that are not submitted.
        missing: numbers of points for which there is no folder: making them was interrupted.
    """

    folder: Path
    runs: Mapping[int, RunDir]
    waiting: tuple[int, ...]
    missing: tuple[int, ...]


def find_unfinished(experiments: Sequence[TaskSpec], runs: Path) -> Unfinished | None:
    """What is left of the newest submission of these specs that was not carried out whole; None: nothing."""
    numbers = {experiment.hash(): number for number, experiment in enumerate(experiments)}
    beginnings = {spec_hash[:8] for spec_hash in numbers}
    names = sorted({experiment.name for experiment in experiments})
    ours = own_runs(run for name in names for run in _with_beginning(runs / name, beginnings))
    unsubmitted = [
        run
        for run in ours
        if is_unsubmitted(read_events(run.events)) and numbers.keys() & set(spec_hashes(run))
    ]
    if not unsubmitted:
        return None
    for run in unsubmitted:
        require_undamaged(run.events)
    newest = max(unsubmitted, key=lambda run: run.id)
    sweep = read_manifest(newest).get("sweep")
    if not sweep and len(experiments) > 1:
        return None  # a run of its own that was never submitted: no point of this sweep
    members = [run for run in ours if read_manifest(run).get("sweep") == sweep] if sweep else [newest]
    found = {numbers[h]: run for run in members for h in spec_hashes(run) if h in numbers}
    elsewhere = {known.spec_hash for known in find_submitted(experiments, runs)}
    open_numbers = {number for spec_hash, number in numbers.items() if spec_hash not in elsewhere}
    waiting = {number for number, run in found.items() if run in unsubmitted} & open_numbers
    if not waiting:
        return None
    return Unfinished(
        folder=newest.path.parent / str(sweep) if sweep else newest.path,
        runs=found,
        waiting=tuple(sorted(waiting)),
        missing=tuple(sorted(open_numbers - set(found))),
    )


@contextlib.contextmanager
def one_submission(names: Iterable[str], runs: Path) -> Iterator[None]:
    """Keep other submissions of these names waiting: between our look into the ledger and our entry lies nobody's.

    Raises:
        RunError: another one does not end, or the runs folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        for name in sorted(set(names)):  # in one order, lest two of us wait for each other
            path = runs / name / ".submit.lock"
            stack.enter_context(lock.alone(path, patience_s=PATIENCE_S, hint=ELSEWHERE))
        yield


def describe_progress(events: Sequence[Event]) -> str | None:
    """What a run's events say of it, in words; None when a user or the retry policy has ended it."""
    moves = [e for e in events if e.event not in STAYS]
    last = moves[-1].event if moves else ""
    if last == "completed":
        return "completed"
    if is_stopped(events):
        return STOPPED
    if is_paused(events):
        return "waiting for the other points of its sweep"
    if is_cancelled(events) or last in ("gave_up", "extended", "reshaped") or not moves:
        return None
    attempts = parse_attempts(events)
    if not attempts or last == "submitted":
        return "waiting to start"
    return "waiting for its next attempt" if last == "requeued" else f"in attempt {attempts[-1].number}"


def require_not_submitted(experiments: Sequence[TaskSpec], runs: Path) -> None:
    """Refuse a second submission of the same spec. Raises: RunError that names the first one."""
    known = find_submitted(experiments, runs)
    if not known:
        return
    gone = find_jobless([each.run for each in known])
    newest = next((each for each in reversed(known) if each.run not in gone), known[-1])
    if len(experiments) == 1 and newest.run in gone:
        raise RunError(
            f"this spec was submitted before, as run {newest.run.name}/{newest.run.id}, and nothing of that waits or "
            f"runs any more: {gone[newest.run]} is gone",
            hint=f"go on with it: {continuing([newest.run])}; submit another of the same: sedd submit --resubmit …",
        )
    hint = f"follow it: sedd status {newest.run.id}; submit another of the same: sedd submit --resubmit …"
    if len(experiments) == 1:
        what = f"this spec is submitted already: run {newest.run.name}/{newest.run.id}, {newest.standing}"
    else:
        what = (
            f"{len(known)} of these {len(experiments)} runs are submitted already, the newest {newest.run.id}"
        )
    if len(experiments) > 1 and gone:
        what += f"; nothing waits or runs any more of {counted(len(gone), 'run')}"
        hint = f"go on with {'it' if len(gone) == 1 else 'them'}: {continuing(list(gone))}; {hint}"
    raise RunError(what, hint=hint)


def continuing(runs: Sequence[RunDir]) -> str:
    """The command that lets exactly these runs go on."""
    return f"sedd requeue {' '.join(run.id for run in runs)}"


def _with_beginning(folder: Path, beginnings: set[str]) -> Iterator[RunDir]:
    """Runs in a folder whose id carries one of the hashes, oldest first, found by name alone.

    A run whose spec was changed since has a first spec beside its own, and may be one of any. Those of other users
    who let nobody look into them are passed over.
    """
    try:
        names = sorted(entry.name for entry in os.scandir(folder))
    except OSError:
        return
    for name in names:
        parts = name.split("-")
        run = RunDir(folder / name)
        if len(parts) < 3 or not (parts[2] in beginnings or os.path.exists(run.earlier_spec(1))):
            continue
        if os.path.exists(run.manifest):
            yield run
