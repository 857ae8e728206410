"""The heartbeat: a thread that says every few seconds what the loop last reported."""

import contextlib
import dataclasses
import datetime as dt
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from sedd.rundir.heartbeat import INTERVAL_S, Heartbeat, write_heartbeat


class Pulse:
    """What is known of the attempt now. `update` is called by the loop; the thread writes."""

    def __init__(self, path: Path, beat: Heartbeat, *, device: int | None) -> None:
        self._path = path
        self._device = device
        self._beat = beat
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def update(self, **fields: Any) -> None:
        """The loop moved on: note it, with the time."""
        with self._lock:
            self._beat = dataclasses.replace(self._beat, progress_t=_now(), **fields)

    def beat(self) -> None:
        """Write now."""
        busy = gpu_utilization(self._device)
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
        self._thread.join()
        self.beat()

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            self.beat()


@contextlib.contextmanager
def pulse(path: Path | None, *, attempt: int, steps: int, gpu: str | None) -> Iterator[Pulse]:
    """A beating pulse, or a silent one for ranks that have no path to write to."""
    beat = Heartbeat(
        t=_now(),
        progress_t=_now(),
        attempt=attempt,
        phase="starting",
        step=0,
        steps=steps,
        host=socket.gethostname(),
        pid=os.getpid(),
        gpu=gpu,
    )
    # Asked here: the thread that beats has a current device of its own.
    device = torch.cuda.current_device() if gpu is not None and torch.cuda.is_available() else None
    alive = Pulse(path or Path(os.devnull), beat, device=device)
    if path is None:
        yield alive
        return
    alive.start()
    try:
        yield alive
    finally:
        alive.stop()


def gpu_utilization(device: int | None) -> float | None:
    """Percent of the driver's last sample in which the GPU had work; None on a CPU and where it cannot be asked."""
    if device is None:
        return None
    try:
        return float(torch.cuda.utilization(device))
    except Exception:  # drivers and containers fail in many ways: none may end the heartbeat, hence the run
        return None


def _now() -> str:
    return dt.datetime.now(dt.UTC).isoformat(timespec="milliseconds")
