"""Write and read metrics.jsonl, one row per logged step, and write validations.jsonl: functions of (spec, step)."""

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sedd.rundir.atomic import atomic_file
from sedd.rundir.layout import RunDir
from sedd.rundir.validation_rows import ValidationRow

Row = Mapping[str, Any]


class MetricsLog:
    """Appends rows; what a killed attempt wrote past the step it is resumed from is left out first.

    The attempt gets a file of its own, put in the old one's place: an older attempt that is still alive somewhere
    (its node was lost, and is back) appends to a file that nobody reads any more. While the disk is full rows wait in
    memory.
    """

    def __init__(self, path: Path, *, resumed_step: int) -> None:
        keep = _bytes_up_to(path, resumed_step)
        with atomic_file(path) as temporary:
            temporary.write_bytes(path.read_bytes()[:keep] if keep else b"")
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND)
        self._waiting = b""

    def write(self, row: Row) -> None:
        """Add one row, visible to readers at once, or as soon as the disk has space."""
        self._waiting += json.dumps(row).encode() + b"\n"
        with contextlib.suppress(
            OSError
        ):  # the next row or checkpoint tries again; that one says what it saw
            self._flush()

    def make_durable(self) -> None:
        """Before a checkpoint: the rows up to its step must be as safe as it. Raises: OSError."""
        self._flush()
        os.fsync(self._file)

    def hand_over(self) -> int:
        """Give all rows to the system, which keeps them when this process is killed; the file's length.

        Raises:
            OSError: the disk is full.
        """
        self._flush()
        return os.fstat(self._file).st_size

    def close(self) -> None:
        os.close(self._file)

    def _flush(self) -> None:
        while self._waiting:
            self._waiting = self._waiting[os.write(self._file, self._waiting) :]


class RunLogs:
    """metrics.jsonl and validations.jsonl of an attempt; arguments as for `MetricsLog`."""

    def __init__(self, run: RunDir, *, resumed_step: int) -> None:
        self._metrics = MetricsLog(run.metrics, resumed_step=resumed_step)
        self._validations = MetricsLog(run.validations, resumed_step=resumed_step)

    def write(self, row: Row, validation: ValidationRow | None) -> None:
        self._metrics.write(row)
        if validation is not None:
            self._validations.write(validation.record())

    def make_durable(self) -> None:
        """As that of `MetricsLog`. Raises: OSError."""
        self._metrics.make_durable()
        self._validations.make_durable()

    def hand_over(self) -> list[int]:
        """As that of `MetricsLog`, of both files: what `rows_up_to` gives for the newest step. Raises: OSError."""
        return [self._metrics.hand_over(), self._validations.hand_over()]

    def close(self) -> None:
        self._metrics.close()
        self._validations.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The whole rows of a metrics file; none when it does not exist yet."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    rows = (_parse(line) for line in lines)
    return [row for row in rows if row is not None]


def last_logged_step(path: Path) -> int:
    """Step of the last row: how far the attempt before came, saved or not; 0 without rows."""
    rows = read_metrics(path)
    return int(rows[-1]["step"]) if rows else 0


def rows_up_to(run: RunDir, step: int) -> list[int]:
    """Bytes of metrics.jsonl and validations.jsonl that hold the rows up to a step."""
    return [_bytes_up_to(run.metrics, step), _bytes_up_to(run.validations, step)]


def _parse(line: bytes) -> dict[str, float] | None:
    try:
        row = json.loads(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and "step" in row else None


def _bytes_up_to(path: Path, step: int) -> int:
    """Length of the file's beginning that holds whole rows of steps <= `step`."""
    keep = 0
    try:
        with open(path, "rb") as file:
            for line in file:
                row = _parse(line)
                if not line.endswith(b"\n") or row is None or row["step"] > step:
                    break
                keep += len(line)
    except FileNotFoundError:
        pass
    return keep
