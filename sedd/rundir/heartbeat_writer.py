"""Write heartbeat.json every few seconds, from a thread, with what the loop last reported."""

import contextlib
import dataclasses
import datetime as dt
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sedd.rundir.heartbeat import INTERVAL_S, Heartbeat, write_heartbeat

STARTING = "starting"
Utilization = Callable[[], float | None]


class HeartbeatWriter:
    """Holds what is known of the attempt; the loop calls `update`, a thread writes it."""

    def __init__(self, path: Path, beat: Heartbeat, *, utilization: Utilization) -> None:
        self._path = path
        self._utilization = utilization
        self._beat = beat
        self._lock = threading.Lock()
        self._stop, self._is_due = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def update(self, **fields: Any) -> None:
        """The loop moved on: note it, with the time. The end of the start is written at once."""
        with self._lock:
            before = self._beat
            self._beat = dataclasses.replace(before, progress_t=_now(), **fields)
            if before.phase == STARTING != self._beat.phase:
                self._is_due.set()  # else a run that logs its first steps seems to start yet

    def beat(self) -> None:
        """Write now."""
        busy = self._utilization()
        with self._lock:
            beat = dataclasses.replace(self._beat, t=_now(), gpu_utilization=busy)
        with contextlib.suppress(OSError):  # a full disk must not end the run; the reader sees an old beat
            write_heartbeat(self._path, beat)

    def start(self) -> None:
        self.beat()
        self._thread.start()

    def stop(self) -> None:
        """End the thread and write the last beat."""
        self._stop.set()
        self._is_due.set()
        self._thread.join()
        self.beat()

    def _run(self) -> None:
        while not self._stop.is_set():
            self._is_due.wait(INTERVAL_S)
            self._is_due.clear()
            if not self._stop.is_set():
                self.beat()


@contextlib.contextmanager
def write_heartbeats(
    path: Path | None,
    *,
    attempt: int,
    steps: int,
    unit: str = "steps",
    gpu: str | None = None,
    utilization: Utilization = lambda: None,
) -> Iterator[HeartbeatWriter]:
    """Write heartbeats while the block runs; ranks without a path write none.

    `unit` is what `steps` counts; `utilization` says how busy the GPU is, in percent.
    """
    beat = Heartbeat(
        t=_now(),
        progress_t=_now(),
        attempt=attempt,
        phase=STARTING,
        step=0,
        steps=steps,
        unit=unit,
        host=socket.gethostname(),
        pid=os.getpid(),
        gpu=gpu,
    )
    alive = HeartbeatWriter(path or Path(os.devnull), beat, utilization=utilization)
    if path is None:
        yield alive
        return
    alive.start()
    try:
        yield alive
    finally:
        alive.stop()


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
