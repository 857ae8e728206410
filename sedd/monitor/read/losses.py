"""A few training losses from all along metrics.jsonl, for a sparkline."""

import json
import os
from pathlib import Path

SAMPLES = 40
_WHOLE_BYTES = 65_536
_PIECE_BYTES = 1024


def read_losses(path: Path) -> tuple[float, ...]:
    """About `SAMPLES` losses, oldest first; none when there is no file yet or it may not be read."""
    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return ()
    try:
        size = os.fstat(handle).st_size
        if size <= _WHOLE_BYTES:
            lines = os.pread(handle, size, 0).split(b"\n")[:-1]
            return _losses(
                [lines[len(lines) * k // SAMPLES] for k in range(SAMPLES)] if len(lines) > SAMPLES else lines
            )
        starts = [(size - _PIECE_BYTES) * k // (SAMPLES - 1) for k in range(SAMPLES)]
        pieces = [os.pread(handle, _PIECE_BYTES, start).split(b"\n") for start in starts]
        # The first line of a piece may be cut; the second is whole, if there is a third.
        return _losses([piece[1] for piece in pieces if len(piece) > 2])
    finally:
        os.close(handle)


def _losses(lines: list[bytes]) -> tuple[float, ...]:
    losses = []
    for line in lines:
        try:
            losses.append(float(json.loads(line)["loss"]))
        except (ValueError, KeyError, TypeError):
            continue
    return tuple(losses)
