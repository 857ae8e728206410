"""Ranges in a spec, of which a shape is picked: `1-8` GPUs, `30m-24h`."""

import re
from typing import Annotated

from pydantic import BeforeValidator, PlainSerializer

from sedd.complaints import shown
from sedd.units import exact_duration, parse_duration_s

_DURATIONS = re.compile(r"\s*([\d.]+\s*[a-z][^-:]*)-(\s*[\d.]+\s*[a-z][^-:]*)")
"""Not SLURM's `1-00:00:00`, which is one duration."""


def parse_counts(value: object) -> tuple[int, int]:
    """(1, 8) of `1-8`, (4, 4) of `4`. Raises: ValueError."""
    parts = [part.strip() for part in str(value).split("-")] if isinstance(value, int | str) else []
    if isinstance(value, bool) or len(parts) not in (1, 2) or not all(part.isdecimal() for part in parts):
        raise ValueError(f"{shown(value)} is no number of GPUs: write 4, or a range like 1-8")
    least, most = int(parts[0]), int(parts[-1])
    if not 1 <= least <= most:
        raise ValueError(
            f"{shown(value)} is no range of GPUs: the first number must be 1 or more, and the smaller"
        )
    return least, most


def format_counts(counts: tuple[int, int]) -> int | str:
    """As `parse_counts` reads it."""
    least, most = counts
    return most if least == most else f"{least}-{most}"


def is_duration_range(value: object) -> bool:
    """Whether this is written as a range of durations, such as `30m-24h`."""
    return isinstance(value, str) and _DURATIONS.fullmatch(value) is not None


def parse_durations_s(value: object) -> tuple[int, int]:
    """(1800, 86400) of `30m-24h`. Raises: ValueError."""
    match = _DURATIONS.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError(f"{shown(value)} is no range of durations: write it like 30m-24h")
    least, most = parse_duration_s(match[1]), parse_duration_s(match[2])
    if least > most:
        raise ValueError(f"{shown(value)} is no range of durations: the first one must be the shorter")
    return least, most


def format_durations(durations_s: tuple[int, int]) -> str:
    """As `parse_durations_s` reads it."""
    return "-".join(map(exact_duration, durations_s))


Counts = Annotated[
    tuple[int, int],
    BeforeValidator(parse_counts, json_schema_input_type=int | str),
    PlainSerializer(format_counts),
]
"""Least and most; written as `1-8`, or `4`."""
Durations = Annotated[
    tuple[int, int],
    BeforeValidator(parse_durations_s, json_schema_input_type=str),
    PlainSerializer(format_durations),
]
"""Seconds, shortest and longest; written as `30m-24h`."""
