"""Write heartbeats of a training with the GPU's utilization."""

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path

import torch

from sedd.rundir.heartbeat_writer import HeartbeatWriter, write_heartbeats


@contextlib.contextmanager
def write_gpu_heartbeats(
    path: Path | None, *, attempt: int, steps: int, gpu: str | None
) -> Iterator[HeartbeatWriter]:
    """Write heartbeats while the block runs; ranks without a path write none."""
    # Asked here: the thread that beats has a current device of its own.
    device = torch.cuda.current_device() if gpu is not None and torch.cuda.is_available() else None
    busy = functools.partial(gpu_utilization, device)
    with write_heartbeats(path, attempt=attempt, steps=steps, gpu=gpu, utilization=busy) as alive:
        yield alive


def gpu_utilization(device: int | None) -> float | None:
    """Percent of the driver's last sample in which the GPU had work; None on a CPU and where it cannot be asked."""
    if device is None:
        return None
    try:
        import pynvml

        pynvml.nvmlInit()
        # By its UUID: torch.cuda.utilization takes CUDA's number for the driver's.
        name = f"GPU-{torch.cuda.get_device_properties(device).uuid}"
        return float(pynvml.nvmlDeviceGetUtilizationRates(pynvml.nvmlDeviceGetHandleByUUID(name)).gpu)
    except Exception:  # drivers and containers fail in many ways: none may end the heartbeat, hence the run
        return None
