"""Save checkpoints while training continues: a thread writes a copy; the last save is waited for."""

import contextlib
import datetime as dt
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sedd.errors import CheckpointError, RunError
from sedd.rundir.attempts import save_times_s
from sedd.rundir.events import note_event, read_events
from sedd.rundir.fence import require_newest
from sedd.rundir.layout import RunDir
from sedd.spec.training import CheckpointSpec
from sedd.training.cadence import Cadence
from sedd.training.checkpoint_file import prune_checkpoints, write_checkpoint
from sedd.training.host_copy import Snapshot, SnapshotMemory

Notify = Callable[[str], None]

STOP_PATIENCE_S = 5.0
"""With a full disk: whoever sends a stop signal kills soon."""
_AGAIN_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved:
    """A checkpoint on disk."""

    step: int
    t: str
    """When it became whole; UTC, ISO 8601."""


class Saver:
    """Writes checkpoints of rank 0, one at a time, and notes each as an event."""

    def __init__(
        self,
        run: RunDir,
        spec: CheckpointSpec,
        *,
        attempt: int,
        make_rows_durable: Callable[[], None],
        notify: Notify,
    ) -> None:
        self._run = run
        self._make_rows_durable = make_rows_durable
        self._spec = spec
        self._attempt = attempt
        self._notify = notify
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._writing: Future[None] | None = None
        self._memory = SnapshotMemory()
        self._cadence = Cadence(spec, past_s=save_times_s(read_events(run.events)))
        self._since = 0.0
        self.newest: Saved | None = None

    @property
    def writing_since(self) -> float:
        """Since when a periodic checkpoint is being written (`time.monotonic`); 0 if none is."""
        return self._since if self._writing is not None and not self._writing.done() else 0.0

    def is_due(self, step: int) -> bool:
        """Whether a periodic save follows this step."""
        is_saving = self._writing is not None and not self._writing.done()
        return self._cadence.is_due(step, is_saving=is_saving)

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
        self.wait()
        self._cadence.begun()
        started = self._since = time.monotonic()
        try:
            self._make_rows_durable()
            self._pool.submit(self._memory.reserve, state).result()
        except OSError as e:
            self._notify(f"checkpoint put off, training continues: {e.strerror}")
            return
        self._writing = self._pool.submit(self._write_copy, step, self._memory.take(state), started)

    def save_now(
        self,
        step: int,
        state: dict[str, Any],
        *,
        reason: str,
        patience_s: float,
        is_asked_to_stop: Callable[[], bool] = lambda: False,
        on_wait: Callable[[], None] = lambda: None,
    ) -> None:
        """Write the last checkpoint of an attempt and return when it is whole.

        While it cannot be written, because the disk is full or the permission gone, `on_wait` is called before each
        pause. Whoever asks us to stop meanwhile kills soon: `STOP_PATIENCE_S` later it is given up.

        Raises:
            CheckpointError, RunError, OSError: it cannot be written, though we tried again for `patience_s`.
            SupersededError: a newer attempt has begun.
        """
        deadline = time.monotonic() + patience_s
        while True:
            self.wait()
            try:
                self._make_rows_durable()
                if self.newest is None or self.newest.step != step:
                    self._write(step, state, reason, time.monotonic())
            except (CheckpointError, RunError, OSError) as e:
                now = time.monotonic()
                if is_asked_to_stop():
                    deadline, is_asked_to_stop = min(deadline, now + STOP_PATIENCE_S), _never
                if now > deadline:
                    raise
                self._notify(f"checkpoint failed, trying again: {e}")
                on_wait()
                time.sleep(_AGAIN_S)
            else:
                return

    def wait(self) -> None:
        """Return when nothing is being written."""
        if self._writing is not None:
            try:
                self._writing.result()
            except (CheckpointError, RunError, OSError) as e:
                self._notify(f"checkpoint failed, training continues: {e}")
            self._writing = None

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
        seal = write_checkpoint(
            self._run.checkpoints, step, state, before_publishing=self._require_newest_attempt
        )
        now, seconds = dt.datetime.now(dt.UTC), time.monotonic() - started
        self._cadence.took(seconds)
        self.newest = Saved(step=step, t=now.isoformat(timespec="milliseconds"))
        note_event(
            self._run.events,
            "checkpoint",
            attempt=self._attempt,
            step=step,
            seconds=round(seconds, 3),
            bytes=seal.bytes,
            reason=reason,
        )
        prune_checkpoints(
            self._run.checkpoints, keep=self._spec.keep, keep_every_steps=self._spec.keep_every_steps
        )

    def _require_newest_attempt(self) -> None:
        require_newest(self._run.events, attempt=self._attempt)


def _never() -> bool:
    return False
