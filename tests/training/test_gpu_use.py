"""The heartbeat says how busy the GPU is, and no driver can stop it from beating."""

import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sedd.rundir import heartbeat_writer as module
from sedd.rundir.heartbeat import read_heartbeat
from sedd.training.gpu_use import gpu_utilization, write_gpu_heartbeats


def test_without_a_gpu_the_utilization_is_not_known(tmp_path: Path) -> None:
    path = tmp_path / "heartbeat.json"
    with write_gpu_heartbeats(path, attempt=1, steps=10, gpu=None) as beating:
        beating.update(step=3)
    beat = read_heartbeat(path)
    assert beat is not None
    assert (beat.step, beat.gpu_utilization) == (3, None)


def test_with_a_gpu_every_beat_samples_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = iter(range(40, 100))
    driver = SimpleNamespace(
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByUUID={"GPU-aa": "other", "GPU-cc": "mine"}.__getitem__,
        nvmlDeviceGetUtilizationRates=lambda card: SimpleNamespace(
            gpu=next(samples) if card == "mine" else 0
        ),
    )
    monkeypatch.setitem(sys.modules, "pynvml", driver)
    uuids = {0: "aa", 2: "cc"}
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid=uuids[number])
    )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    monkeypatch.setattr(module, "INTERVAL_S", 0.01)
    path = tmp_path / "heartbeat.json"
    with write_gpu_heartbeats(path, attempt=1, steps=10, gpu="Tesla V100"):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            beat = read_heartbeat(path)
            if beat is not None and beat.gpu_utilization is not None and beat.gpu_utilization > 40:
                return
            time.sleep(0.01)
    raise AssertionError("no second sample")


def test_a_driver_that_fails_costs_only_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise RuntimeError("NVML: driver/library version mismatch")

    monkeypatch.setitem(sys.modules, "pynvml", SimpleNamespace(nvmlInit=fail))
    assert gpu_utilization(0) is None
