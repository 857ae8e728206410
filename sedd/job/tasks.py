"""What a job's process does, by the spec's `task:`. Each imports what it works with when it is its turn."""

import contextlib
import datetime as dt
import os
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from sedd.errors import DataError, MisfitError, MissingDataError, UsageError
from sedd.halving.rungs import open_gate
from sedd.job.final_events import record_event
from sedd.job.node_preflight import require_fit_node
from sedd.job.standby import import_training
from sedd.launch.resources import read_manifest_profile
from sedd.rundir.events import read_events
from sedd.rundir.exits import Exit
from sedd.rundir.heartbeat import read_heartbeat
from sedd.rundir.heartbeat_writer import HeartbeatWriter, write_heartbeats
from sedd.rundir.layout import RunDir
from sedd.rundir.node_folder import ENTRY_VARIABLE
from sedd.rundir.rank_progress import progress_writer
from sedd.spec.build import BuildOptions, DataTask
from sedd.spec.load import load_resolved, load_resolved_as
from sedd.spec.option_keys import hints_name_keys
from sedd.units import format_duration

if TYPE_CHECKING:
    from sedd.training.stop import StopFlag

_TELL_S = 60.0
"""Between two lines about progress in the log."""
_RECORD_S = 10.0
"""Between two events about what is kept."""
_POLL_S = 1.0
"""Between two looks for the first rank's last event."""

Work = Callable[[RunDir, int, "StopFlag"], Exit]
"""A run folder and the number of the attempt; returns early, what it has saved, when the flag is set."""


def train(run: RunDir, attempt: int, stop: "StopFlag") -> Exit:
    """Train as the rank that the environment names."""
    import_training()
    from sedd.training.distributed import Ranks
    from sedd.training.local_copies import NodePlace
    from sedd.training.loop import Outcome
    from sedd.training.loop import train as train_run

    ranks, progress = Ranks.from_environment(os.environ), progress_writer(os.environ)
    progress.phase("starting")
    require_fit_node(run, attempt, ranks_size=ranks.size, rank=ranks.rank, local_rank=ranks.local_rank)
    site = read_manifest_profile(run)
    entry = os.environ.get(ENTRY_VARIABLE)
    place = NodePlace(entry=entry, folder=site.local_checkpoints) if entry else None
    with _misfits_named(UsageError):
        outcome = train_run(
            run,
            attempt=attempt,
            ranks=ranks,
            stop=stop,
            wandb=site.wandb,
            stage=site.stage,
            place=place,
            rungs=open_gate(run, attempt=attempt),
            progress=progress,
        )
    exits = {Outcome.COMPLETED: Exit.COMPLETED, Outcome.PAUSED: Exit.PAUSED, Outcome.STOPPED: Exit.STOPPED}
    return exits[outcome]


def build_store(run: RunDir, attempt: int, stop: "StopFlag") -> Exit:
    """Build a token store. An attempt that is stopped leaves nothing; the next one starts afresh, in minutes."""
    from sedd.data.build import build_store as build

    require_fit_node(run, attempt, ranks_size=1, rank=0, local_rank=0)
    wanted = load_resolved_as(DataTask, run.spec).build
    options = BuildOptions.model_validate(wanted.model_dump(include=set(BuildOptions.model_fields)))
    total = sum(path.stat().st_size for path in wanted.inputs if path.exists())
    with write_heartbeats(run.heartbeat, attempt=attempt, steps=total, unit="bytes") as beat:
        tell = _Progress(beat, total, stop, phase="building")
        try:
            with hints_name_keys("data"), _misfits_named(UsageError, DataError):
                result = build(list(wanted.inputs), wanted.store, options, owner=run.id, progress=tell.more)
        except _StoppedError:
            beat.update(phase="stopping")
            return Exit.STOPPED
        beat.update(phase="done", step=total)
    print(
        f"{wanted.store}: {'already built from the same input and options' if result.reused else 'built'}",
        flush=True,
    )
    for note in result.manifest.notes:
        print(f"warning: {note}", flush=True)
    record_event(run, "checkpoint", attempt=attempt, step=total, reason="last")
    return Exit.COMPLETED


def use_network(run: RunDir, attempt: int, stop: "StopFlag") -> Exit:
    """Evaluate, sample, score or embed with a trained network as one of several ranks, or run a command on samples."""
    from sedd.inference.work import WORK as BY_NETWORK
    from sedd.inference.work import Job
    from sedd.training.distributed import Ranks, choose_device

    ranks = Ranks.from_environment(os.environ)
    require_fit_node(run, attempt, ranks_size=ranks.size, rank=ranks.rank, local_rank=ranks.local_rank)
    choose_device(ranks)
    task = load_resolved(run.spec)
    work, path = BY_NETWORK[task.task], run.heartbeat if ranks.is_first else None
    reached, total = _known_progress(run, work.unit)
    with write_heartbeats(path, attempt=attempt, steps=total, unit=work.unit) as beat:
        kept = _Kept(run, attempt, beat, reached=reached)
        tell = _Progress(beat, total, stop, phase=work.phase, kept=kept if ranks.is_first else None)
        try:
            with hints_name_keys(task.task), _misfits_named(UsageError, DataError):
                line = work.do(Job(run, task, tell.until, _print_line, attempt, ranks, tell.ask, tell.begin))
            if not ranks.is_first:
                _await_first(run, attempt, tell.ask)
                return Exit.COMPLETED
        except _StoppedError:
            beat.update(phase="stopping")
            kept.record(reason="stop")
            return Exit.STOPPED
        kept.found(tell.done)
        beat.update(phase="done")
    _print_line(line)
    record_event(run, "checkpoint", attempt=attempt, step=tell.done, reason="last")
    return Exit.COMPLETED


@contextlib.contextmanager
def _misfits_named(*kinds: type[UsageError | DataError]) -> Iterator[None]:
    """Bad input, of these kinds, is what any attempt would find; what is not there, or cannot be written, may be there
    at the next.
    """
    try:
        yield
    except kinds as e:
        if isinstance(e, MissingDataError | MisfitError) or isinstance(e.__cause__, OSError):
            raise
        raise MisfitError(e.message, hint=e.hint) from e


def _known_progress(run: RunDir, unit: str) -> tuple[int, int]:
    """How far an earlier attempt came, and how much there is to do, as it knew; 0 as long as none did."""
    earlier = read_heartbeat(run.heartbeat)
    return (earlier.step, earlier.steps) if earlier and earlier.unit == unit else (0, 0)


def _await_first(run: RunDir, attempt: int, ask: Callable[[], None]) -> None:
    """Wait until the first rank has written the results: ranks that end long before the others look lost."""

    def is_done() -> bool:
        events = (e for e in read_events(run.events) if e.event == "checkpoint" and e.attempt == attempt)
        return any(e.get("reason") == "last" for e in events)

    while not is_done():
        ask()
        time.sleep(_POLL_S)


def _print_line(text: str) -> None:
    print(text, flush=True)


class _StoppedError(Exception):
    """The flag was set."""


class _Kept:
    """Records, as a training does of its checkpoints, how much of the work the kept parts hold.

    Args:
        reached: how far an earlier attempt came; what of it no part holds is done again.
    """

    def __init__(self, run: RunDir, attempt: int, beat: HeartbeatWriter, *, reached: int) -> None:
        self._run, self._attempt, self._beat, self._reached = run, attempt, beat, reached
        self._is_known = False
        self._step = self._recorded = 0
        self._recorded_at = time.monotonic()

    def found(self, done: int) -> None:
        """So much is in parts before this attempt computes any; later calls change nothing."""
        if self._is_known:
            return
        self._is_known, self._step, self._recorded = True, done, done
        if done and self._attempt > 1:
            repeats = max(0, self._reached - done)
            record_event(self._run, "resumed", attempt=self._attempt, step=done, repeats=repeats)

    def until(self, done: int) -> None:
        """So much is in parts."""
        self.found(done)
        self._step = max(self._step, done)
        if self._step:
            self._beat.update(checkpoint_step=self._step, checkpoint_t=dt.datetime.now(dt.UTC).isoformat())
        if time.monotonic() - self._recorded_at > _RECORD_S:
            self.record(reason="periodic")

    def record(self, *, reason: str) -> None:
        """Write an event, where there is more than at the last one."""
        if self._step > self._recorded:
            self._recorded, self._recorded_at = self._step, time.monotonic()
            record_event(self._run, "checkpoint", attempt=self._attempt, step=self._step, reason=reason)


class _Progress:
    """Tells the heartbeat how much has been done, now and then the log, too; and asks the flag."""

    def __init__(
        self, beat: HeartbeatWriter, total: int, stop: "StopFlag", *, phase: str, kept: _Kept | None = None
    ) -> None:
        self._beat, self._total, self._stop, self._phase = beat, total, stop, phase
        self._kept, self._begins = kept, False
        self._first: tuple[int, float] | None = None
        self._told, self.done = time.monotonic(), 0

    def more(self, count: int) -> None:
        """So much more has been done."""
        self.until(self.done + count)

    def begin(self) -> None:
        """A part is computed now: what is told next is in the parts before it."""
        self._begins = True

    def ask(self) -> None:
        """Raises: _StoppedError when the flag is set."""
        if self._stop:
            raise _StoppedError

    def until(self, done: int, total: int | None = None) -> None:
        """So much has been done in all, of `total` if that is known only now."""
        if self._begins and self._kept is not None:
            self._kept.until(done)
        self._begins = False
        self.ask()
        now = time.monotonic()
        self.done, self._total = done, total or self._total
        # What was there at the first call may be of an earlier attempt: it says nothing about the rate.
        before, began = self._first = self._first or (done, now)
        rate = (done - before) / max(now - began, 1e-3)
        left_s = max(0, self._total - done) / rate if rate else None
        self._beat.update(phase=self._phase, step=done, steps=self._total, eta_s=left_s)
        if left_s is not None and now - self._told > _TELL_S:
            self._told = now
            left = format_duration(left_s)
            print(f"{self._phase}: {done:,} of {self._total:,}, {rate:,.1f}/s, {left} left", flush=True)


WORK: dict[str, Work] = {
    "train": train,
    "data": build_store,
    "evaluate": use_network,
    "sample": use_network,
    "score": use_network,
    "embed": use_network,
    "command": use_network,
}
"""By the spec's `task:`."""
