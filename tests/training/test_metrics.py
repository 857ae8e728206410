"""metrics.jsonl: rows survive, and what a killed attempt wrote too much goes."""

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
