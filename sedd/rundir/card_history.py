"""How fast each card of a node was in the node preflights of this runs folder: `.cards/<host>.jsonl`, a line each."""

import contextlib
import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

from sedd.rundir.shared_folder import make_shared, open_to_all

_READ_BYTES = 1 << 18


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSpeed:
    """One measurement of one card."""

    t: str
    """UTC, ISO 8601."""
    card: str
    """The driver's identifier of the card; its number where there is none."""
    name: str
    dtype: str
    """Number format of the matrix product."""
    tflops: float
    """Of a large matrix product, 10^12 operations a second."""
    gb_per_s: float
    """Of a copy within the card's memory, read and written, 10^9 bytes a second."""


def history_path(runs: Path, host: str) -> Path:
    """Where the measurements of a node are kept."""
    return runs / ".cards" / (re.sub(r"[^\w.-]", "_", host) + ".jsonl")


def append_speed(path: Path, speed: CardSpeed) -> None:
    """Add a measurement. Raises: OSError."""
    make_shared(path.parent)
    line = json.dumps(asdict(speed)).encode() + b"\n"
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        with contextlib.suppress(OSError):  # of another user, who has done this
            open_to_all(handle, path.parent)
        os.write(handle, line)
    finally:
        os.close(handle)


def read_speeds(path: Path) -> list[CardSpeed]:
    """The newest measurements of a node, oldest first; damaged lines are left out."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _READ_BYTES))
            lines = file.read().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        with contextlib.suppress(ValueError, TypeError):
            found.append(CardSpeed(**json.loads(line)))
    return found
