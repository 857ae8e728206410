"""validations.jsonl: each validation's bound by blocks of the fixed set, so that two runs can be compared in pairs."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationRow:
    """One validation: a function of (spec, step), without a clock.

    Attributes:
        proteins: hash of the fixed set, cut into blocks: rows of different sets cannot be paired.
        noise: seed of the fixed noise: rows that share it differ by the weights alone.
        residues: of each block of whole proteins.
        nats: the likelihood bound of each block, summed over its residues.
    """

    step: int
    proteins: str
    noise: int
    residues: tuple[int, ...]
    nats: tuple[float, ...]

    def record(self) -> dict[str, Any]:
        """What a line of the file holds; a ten-thousandth of a nat of thousands of residues is enough."""
        return {
            "step": self.step,
            "proteins": self.proteins,
            "noise": self.noise,
            "residues": list(self.residues),
            "nats": [round(nats, 4) for nats in self.nats],
        }


def read_validation_rows(path: Path) -> tuple[ValidationRow, ...]:
    """The rows of a run so far; none where it has no such file. Raises: OSError when it may not be read."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return ()
    rows = (_parse(line) for line in lines)
    return tuple(row for row in rows if row is not None)


def _parse(line: bytes) -> ValidationRow | None:
    """A row, or None for an unfinished line."""
    try:
        record: Mapping[str, Any] = json.loads(line)
        return ValidationRow(
            step=int(record["step"]),
            proteins=str(record["proteins"]),
            noise=int(record["noise"]),
            residues=tuple(map(int, record["residues"])),
            nats=tuple(map(float, record["nats"])),
        )
    except (ValueError, KeyError, TypeError):
        return None
