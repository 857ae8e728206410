"""Save while training continues: a thread writes a copy, to the run folder or the node; the last save is waited for."""

import contextlib
import datetime as dt
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sedd.errors import REFUSED, CheckpointError, RunError, reason_of
from sedd.rundir.attempts import save_times_s
from sedd.rundir.events import note_event, read_events
from sedd.rundir.fence import require_newest
from sedd.rundir.layout import RunDir, sealed_steps
from sedd.spec.training import CheckpointSpec
from sedd.training.cadence import Cadence, LocalCadence, Tier
from sedd.training.checkpoint_file import prune_checkpoints, write_checkpoint
from sedd.training.host_copy import Snapshot, SnapshotMemory
from sedd.training.local_copies import LocalCopies
from sedd.training.sharding.writer import ShardWriter
from sedd.units import format_duration

Notify = Callable[[str], None]

STOP_PATIENCE_S = 5.0
"""With a full disk: whoever sends a stop signal kills soon."""
FIRST = "first"
"""The reason of the checkpoint before the first step."""
_AGAIN_S = 1.0
_TELL_AGAIN_S = 60.0
"""While a checkpoint cannot be written for the same reason."""
_NOTABLE_S = 0.005


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A checkpoint on disk."""

    step: int
    t: str
    """When it became whole; UTC, ISO 8601."""


class Saver:
    """Writes checkpoints, one at a time, and notes each as an event; between them, copies to the node."""

    def __init__(
        self,
        run: RunDir,
        spec: CheckpointSpec,
        *,
        attempt: int,
        make_rows_durable: Callable[[], None],
        notify: Notify,
        local: LocalCopies | None = None,
        hand_rows_over: Callable[[], list[int]] = list,
        writer: ShardWriter | None = None,
        is_first: bool = True,
    ) -> None:
        """`writer` writes the parts of all ranks as one checkpoint; then each rank has a Saver, and rank 0 tells."""
        self._writer, self._is_first = writer, is_first
        self._run = run
        self._make_rows_durable = make_rows_durable
        self._local, self._hand_rows_over = local, hand_rows_over
        self._spec = spec
        self._attempt = attempt
        self._notify = notify
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self._memory = SnapshotMemory()
        self._cadence = Cadence(spec, past_s=save_times_s(read_events(run.events)))
        self._local_cadence = LocalCadence(spec.local_every if local else None)
        self._local_problem: str | None = None
        self._is_local = False
        self._since = 0.0
        self.newest: Saved | None = None
        self.newest_local: Saved | None = None

    @property
    def writing_since(self) -> float:
        """Since when a periodic checkpoint, or a copy, is being written (`time.monotonic`); 0 if none is."""
        return self._since if self._writing is not None and not self._writing.done() else 0.0

    def due(self, step: int) -> Tier:
        """Which periodic save follows this step."""
        is_saving = self._writing is not None and not self._writing.done()
        if self._cadence.is_due(step, is_saving=is_saving and not self._is_local):
            return Tier.SHARED
        return Tier.NODE if not is_saving and self._local_cadence.is_due() else Tier.NONE

    def prepare(self, state: dict[str, Any]) -> None:
        """Reserve memory for copies of this state in the background, so the first save is as fast as later ones."""
        self.wait()
        self._since = time.monotonic()
        self._writing = self._pool.submit(self._try_to_reserve, state)

    def save_in_background(self, step: int, state: dict[str, Any]) -> None:
        """Copy the state and write it while training continues.

        A save that fails (disk or memory full) is reported and skipped; older checkpoints stay, and the next save
        may succeed.
        """
        self._wait_for_local()
        self.wait()
        self._cadence.begun()
        self._local_cadence.begun()
        started = self._since = time.monotonic()
        try:
            self._make_rows_durable()
            self._pool.submit(self._memory.reserve, state).result()
        except OSError as e:
            self._notify(f"checkpoint put off, training continues: {e.strerror}")
            if self._writer is not None:
                self._writing = self._pool.submit(self._writer.give_up, str(e))
            return
        self._writing = self._pool.submit(self._write_copy, step, self._memory.take(state), started)

    def copy_to_node(self, step: int, state: dict[str, Any], *, began: float) -> None:
        """Copy the state and write it to the node while training continues, as cheaply as a restart allows.

        `began` is when the training was held up for it (`time.monotonic`). A copy that fails is left out.
        """
        self.wait()
        self._local_cadence.begun()
        try:
            rows = self._hand_rows_over()
            self._pool.submit(self._memory.reserve, state).result()
        except OSError as e:
            self._tell_local(f"{e.strerror}")
            if self._writer is not None:
                self._writing = self._pool.submit(self._writer.give_up, str(e))
            return
        copy = self._memory.take(state)
        self._is_local, self._since = True, began
        self._writing = self._pool.submit(self._write_local, step, copy, rows, time.monotonic() - began)

    def save_now(
        self,
        step: int,
        state: dict[str, Any],
        *,
        reason: str,
        patience_s: float,
        is_asked_to_stop: Callable[[], bool] = lambda: False,
        pause: Callable[[float, str], None] = lambda seconds, why: time.sleep(seconds),
    ) -> None:
        """Write the first or last checkpoint of an attempt and return when it is whole.

        While it cannot be written, it is tried again after a `pause` of that many seconds, which also hears why.
        Whoever asks us to stop meanwhile kills soon: `STOP_PATIENCE_S` later it is given up. Before the first step
        nothing is lost by giving up, so what no waiting mends, such as a permission, is not waited for then.

        Raises:
            CheckpointError, RunError, OSError: it cannot be written, though we tried again for `patience_s`.
            SupersededError: a newer attempt has begun.
        """
        deadline = time.monotonic() + patience_s
        told, tell_again = "", 0.0
        while True:
            self.wait()
            try:
                self._make_rows_durable()
                if self.newest is None or self.newest.step != step:
                    self._write(step, state, reason, time.monotonic())
            except (CheckpointError, RunError, OSError) as e:
                now = time.monotonic()
                if reason == FIRST and _is_refused(e):
                    raise
                if is_asked_to_stop():
                    deadline, is_asked_to_stop = min(deadline, now + STOP_PATIENCE_S), _never
                if now > deadline:
                    raise
                why = getattr(e, "message", None) or _why(e)
                if why != told or now >= tell_again:
                    told, tell_again = why, now + _TELL_AGAIN_S
                    left = format_duration(deadline - now)
                    self._notify(f"checkpoint failed, trying again for {left}: {why}; {self._at_stake(step)}")
                pause(_AGAIN_S, _why(e))
            else:
                return

    def _at_stake(self, step: int) -> str:
        """What is lost if a checkpoint at this step is never written, and how to end the waiting."""
        sealed = self.newest.step if self.newest else max(sealed_steps(self._run), default=None)
        end = f"a stop (Ctrl-C) ends the waiting {STOP_PATIENCE_S:g}s later"
        if step == 0 or sealed == step:
            return f"{end}: nothing is lost"
        since = "all steps are lost" if sealed is None else f"the steps after {sealed} are lost"
        return f"{end}, and then {since}"

    def wait(self) -> None:
        """Return when nothing is being written."""
        if self._writing is not None:
            try:
                self._writing.result()
            except (CheckpointError, RunError, OSError) as e:
                self._notify(f"checkpoint failed, training continues: {e}")
            self._writing, self._is_local = None, False

    def close(self) -> None:
        self.wait()
        self._pool.shutdown()
        self._memory.release()

    def _try_to_reserve(self, state: dict[str, Any]) -> None:
        with contextlib.suppress(OSError):  # the save asks again, and says it
            self._memory.reserve(state)

    def _write_copy(self, step: int, copy: Snapshot, started: float) -> None:
        self._write(step, copy.contents(), "periodic", started)

    def _write(self, step: int, state: dict[str, Any], reason: str, started: float) -> None:
        seal = (self._writer or write_checkpoint)(
            self._run.checkpoints, step, state, before_publishing=self._require_newest_attempt
        )
        now, seconds = dt.datetime.now(dt.UTC), time.monotonic() - started
        self._cadence.took(seconds)
        self.newest = Saved(step=step, t=now.isoformat(timespec="milliseconds"))
        if not self._is_first:
            return
        note_event(
            self._run.events,
            "checkpoint",
            attempt=self._attempt,
            step=step,
            seconds=round(seconds, 3),
            bytes=seal.total_bytes,
            reason=reason,
        )
        prune_checkpoints(
            self._run.checkpoints,
            newest=step,
            keep=self._spec.keep,
            keep_every_steps=self._spec.keep_every_steps,
        )

    def _wait_for_local(self) -> None:
        """A checkpoint has to wait for a copy to the node, which then has cost the training so much more."""
        if self._is_local:
            began = time.monotonic()
            self.wait()
            if (waited := time.monotonic() - began) > _NOTABLE_S:
                self._local_cadence.cost(waited)

    def _write_local(self, step: int, copy: Snapshot, rows: list[int], held_s: float) -> None:
        local = self._local
        assert local is not None, "it is due only where there are copies"
        contents, device_s = copy.contents(), copy.device_s()
        began = time.thread_time()

        def cost_s() -> float:
            # On a CPU whatever this thread computes is taken from the step; beside a GPU only what holds the GPU up.
            return held_s + time.thread_time() - began if device_s is None else max(held_s, device_s)

        def write() -> tuple[bool, float]:
            return local.write(step, contents, rows=rows), cost_s()

        others_s: list[float] = []
        try:
            written = self._writer.on_all(write) if self._writer else [write()]
        except RunError as e:
            # Another rank is gone, and may have removed the copy before, or lack this one: both stay.
            self._tell_local(e.message)
        except (CheckpointError, OSError) as e:
            local.remove(step)
            self._tell_local(getattr(e, "message", None) or str(e.args[-1]))
        else:
            others_s = [seconds for _, seconds in written]
            if all(is_there for is_there, _ in written):
                local.keep_newest(step)
                now = dt.datetime.now(dt.UTC)
                self.newest_local = Saved(step=step, t=now.isoformat(timespec="milliseconds"))
        self._local_cadence.cost(max([cost_s(), *others_s]))  # each step waits for the slowest rank

    def _tell_local(self, problem: str) -> None:
        if problem != self._local_problem:  # once, not every few seconds
            self._local_problem = problem
            self._notify(f"no copy of the state on this node: {problem}")

    def _require_newest_attempt(self) -> None:
        require_newest(self._run.events, attempt=self._attempt)


def _is_refused(error: Exception) -> bool:
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in REFUSED


def _why(error: Exception) -> str:
    """`no space left on device`; where the system did not say it, the whole error."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return reason_of(cause) if isinstance(cause, OSError) else getattr(error, "message", str(error))


def _never() -> bool:
    return False
