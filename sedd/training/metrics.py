"""metrics.jsonl: one row per logged step, a pure function of (spec, step): no clock in it."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

Row = Mapping[str, float | int]


class MetricsLog:
    """Appends rows; what a killed attempt wrote past the step it is resumed from is cut off first."""

    def __init__(self, path: Path, *, resumed_step: int) -> None:
        self._path = path
        keep = _bytes_up_to(path, resumed_step)
        self._file = open(path, "ab")  # noqa: SIM115 # open for the whole run; closed by close()
        self._file.truncate(keep)
        self._file.seek(0, os.SEEK_END)

    def write(self, row: Row) -> None:
        """Add one row, visible to readers at once."""
        self._file.write(json.dumps(row).encode() + b"\n")
        self._file.flush()

    def make_durable(self) -> None:
        """Before a checkpoint: the rows up to its step must survive whatever the checkpoint survives."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def read_metrics(path: Path) -> list[dict[str, float]]:
    """The whole rows of a metrics file; none when it does not exist yet."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    rows = (_parse(line) for line in lines)
    return [row for row in rows if row is not None]


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
