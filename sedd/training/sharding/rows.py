"""Which rows of a parameter belong to a rank: as `torch.chunk` and FSDP2's `Shard(0)` cut dimension 0."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

SHARD, START, ROWS = "shard", "start", "rows"
"""Keys of the record that stands for a tensor in one rank's part of a checkpoint."""


def rows_of_rank(rows: int, rank: int, ranks: int) -> tuple[int, int]:
    """First row of a rank and the one after its last; the last ranks have fewer, or none."""
    most = -(-rows // ranks)
    return min(rank * most, rows), min((rank + 1) * most, rows)


def record(own: Tensor, start: int, rows: int) -> dict[str, Any]:
    """What a checkpoint holds of a tensor of `rows` rows, of which `own` are this rank's, from `start` on."""
    return {SHARD: own, START: start, ROWS: rows}


@dataclass(frozen=True, slots=True)
class Pieces:
    """A tensor whose rows lie in several files, mapped into memory and not yet read."""

    pieces: tuple[tuple[int, Tensor], ...]
    """(first row, rows), in order."""
    rows: int

    def take(self, start: int, stop: int) -> Tensor:
        """Rows `start` to `stop`. Raises: ValueError: some are in no file."""
        found = []
        for first, piece in self.pieces:
            low, high = max(start, first), min(stop, first + piece.shape[0])
            if low < high:
                found.append(piece[low - first : high - first])
        if sum(piece.shape[0] for piece in found) != stop - start:
            raise ValueError(f"rows {start} to {stop} are not all there")
        return torch.cat(found) if found else self.pieces[0][1][:0]


def take_rows(value: "Tensor | Pieces", start: int, stop: int) -> Tensor:
    """Rows of a saved tensor, however it was saved."""
    return value.take(start, stop) if isinstance(value, Pieces) else value[start:stop]


def whole(value: Any) -> Any:
    """The same containers with whole tensors in place of pieces."""
    return map_leaves(lambda leaf: leaf.take(0, leaf.rows) if isinstance(leaf, Pieces) else leaf, value)


def joined(parts: Sequence[Any]) -> Any:
    """One state of the ranks' parts of it: records become `Pieces`, everything else is the first rank's."""
    first = parts[0]
    if isinstance(first, dict):
        if set(first) == {SHARD, START, ROWS}:
            found = sorted(((part[START], part[SHARD]) for part in parts), key=lambda piece: piece[0])
            return Pieces(tuple(found), first[ROWS])
        return {key: joined([part[key] for part in parts]) for key in first}
    if isinstance(first, list):
        return [joined(list(each)) for each in zip(*parts, strict=True)]
    return first


def map_leaves(function: Callable[[Any], Any], value: Any) -> Any:
    """The same dicts and lists, with the function's results in place of what else they hold."""
    if isinstance(value, Mapping):
        return {key: map_leaves(function, item) for key, item in value.items()}
    if isinstance(value, list):
        return [map_leaves(function, item) for item in value]
    return function(value)


def leaves(value: Any) -> Iterator[Any]:
    """What dicts and lists hold at last."""
    if isinstance(value, (Mapping, list)):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from leaves(item)
    else:
        yield value
