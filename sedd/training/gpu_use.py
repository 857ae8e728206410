"""The heartbeat of a training: the run folder's, and how busy the GPU is."""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

import torch

from sedd.rundir.heartbeat_writer import Pulse
from sedd.rundir.heartbeat_writer import pulse as any_pulse


@contextlib.contextmanager
def pulse(path: Path | None, *, attempt: int, steps: int, gpu: str | None) -> Iterator[Pulse]:
    """A beating pulse, or a silent one for ranks that have no path to write to."""
    # Asked here: the thread that beats has a current device of its own.
    device = torch.cuda.current_device() if gpu is not None and torch.cuda.is_available() else None
    busy = functools.partial(gpu_utilization, device)
    with any_pulse(path, attempt=attempt, steps=steps, gpu=gpu, utilization=busy) as alive:
        yield alive


def gpu_utilization(device: int | None) -> float | None:
    """Percent of the driver's last sample in which the GPU had work; None on a CPU and where it cannot be asked."""
    if device is None:
        return None
    try:
        return float(torch.cuda.utilization(device))
    except Exception:  # drivers and containers fail in many ways: none may end the heartbeat, hence the run
        return None
