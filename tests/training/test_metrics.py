"""metrics.jsonl: rows survive, and what a killed attempt wrote too much goes."""

import resource
from pathlib import Path

import pytest

from sedd.training.metrics import MetricsLog, read_metrics


def write_rows(path: Path, steps: list[int], *, resumed_step: int = 0) -> None:
    log = MetricsLog(path, resumed_step=resumed_step)
    for step in steps:
        log.write({"step": step, "loss": 1 / step})
    log.close()


def test_rows_past_the_resumed_step_are_not_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    write_rows(path, [2, 4, 6, 8])
    write_rows(path, [6, 8, 10], resumed_step=5)
    assert [row["step"] for row in read_metrics(path)] == [2, 4, 6, 8, 10]


def test_a_row_is_readable_as_soon_as_it_is_written(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "m", resumed_step=0)
    log.write({"step": 1, "loss": 2.5})
    assert read_metrics(tmp_path / "m") == [{"step": 1, "loss": 2.5}]
    log.close()


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_torn_last_row_is_dropped(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "metrics.jsonl"
    write_rows(path, [2, 4, 6])
    path.write_bytes(path.read_bytes()[:-cut])
    assert [row["step"] for row in read_metrics(path)][:2] == [2, 4]
    write_rows(path, [6], resumed_step=4)
    assert [row["step"] for row in read_metrics(path)] == [2, 4, 6]


def test_numbers_are_kept_to_the_last_digit(tmp_path: Path) -> None:
    value = 0.1 + 0.2
    write_rows(tmp_path / "m", [3])
    assert read_metrics(tmp_path / "m")[0]["loss"] == 1 / 3
    log = MetricsLog(tmp_path / "m", resumed_step=3)
    log.write({"step": 4, "loss": value})
    log.close()
    assert read_metrics(tmp_path / "m")[1]["loss"] == value


def test_rows_wait_in_memory_while_the_disk_is_full(tmp_path: Path) -> None:
    """A limit on file sizes refuses bytes as a full disk does, also in the middle of a row."""
    path = tmp_path / "m"
    log = MetricsLog(path, resumed_step=0)
    log.write({"step": 1, "loss": 1.5})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 5, before[1]))
    try:
        log.write({"step": 2, "loss": 2.5})
        log.write({"step": 3, "loss": 3.5})
        assert [row["step"] for row in read_metrics(path)] == [1]
        with pytest.raises(OSError, match="File too large"):
            log.make_durable()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    log.make_durable()
    log.close()
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3]


def test_an_attempt_that_was_replaced_writes_rows_that_nobody_reads(tmp_path: Path) -> None:
    path = tmp_path / "m"
    lost = MetricsLog(path, resumed_step=0)
    for step in (1, 2, 3):
        lost.write({"step": step, "loss": 1.0})
    new = MetricsLog(path, resumed_step=2)
    lost.write({"step": 4, "loss": 1.0})
    new.write({"step": 3, "loss": 1.0})
    assert [row["step"] for row in read_metrics(path)] == [1, 2, 3]
    lost.close()
    new.close()
