"""Ranks of `sedd train` under torchrun: they agree on a run folder before anything is trained."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch.distributed

from sedd.cli import train
from sedd.rundir.layout import RunDir


class SlowReader(torch.distributed.TCPStore):
    """Of a rank that gets to read long after rank 0 has told."""

    def __init__(self, *arguments: object, is_master: bool, **options: object) -> None:
        super().__init__(*arguments, is_master=is_master, **options)
        self.delay_s = 0.0 if is_master else 0.5

    def get(self, key: str) -> bytes:
        time.sleep(self.delay_s)
        return super().get(key)


def test_a_slow_rank_learns_the_run_folder_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("MASTER_PORT", str(free.getsockname()[1] - 1))
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setattr(torch.distributed, "TCPStore", SlowReader)
    monkeypatch.setattr(train, "_new_run", lambda *_: RunDir(tmp_path / "made"))
    with ThreadPoolExecutor(2) as pool:
        told = [pool.submit(train._run_folder, tmp_path / "spec.yaml", (), rank, 2) for rank in (0, 1)]
        assert [run.result(timeout=30).path for run in told] == [tmp_path / "made"] * 2
