"""The files of a checkpoint that all ranks have written, and how they are read as one state.

`step-00001000.pt` and its seal are as of any checkpoint, and name the number of parts; the part of rank 3 of 16 is
`step-00001000.0003-of-0016.shard`. DCP, torch's own, keeps a pickle that runs code when it is read, has no checksums,
and its files cannot be told from those of a killed writer; so these are files of our own.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sedd.training.sharding.rows import joined

SHARDED, RANKS = "sharded", "ranks"
"""Where a checkpoint says of how many parts it is."""
OF_RANKS = ("model", "ema", "optimizer")
"""What of the state is in parts."""


def part_path(checkpoint: Path, rank: int, ranks: int) -> Path:
    return checkpoint.with_name(f"{checkpoint.stem}.{rank:04d}-of-{ranks:04d}.shard")


def parts_of(checkpoint: Path, state: Mapping[str, Any]) -> list[Path]:
    """The other files of a checkpoint whose own file holds `state`; none of a plain one."""
    ranks = int(state[SHARDED][RANKS]) if SHARDED in state else 0
    return [part_path(checkpoint, rank, ranks) for rank in range(ranks)]


def own_rows(state: dict[str, Any]) -> dict[str, Any]:
    """The state in one rank's file alone, with this rank's rows as `Pieces`."""
    of_rank: dict[str, Any] = joined([{key: state[key] for key in OF_RANKS}])
    return state | of_rank


def with_parts(
    checkpoint: Path, state: dict[str, Any], read: Callable[[Path], dict[str, Any]]
) -> dict[str, Any]:
    """The state with what its parts hold, as `Pieces` of the files that `read` maps into memory."""
    paths = parts_of(checkpoint, state)
    if not paths:
        return state
    described = {key: value for key, value in state.items() if key != SHARDED}
    of_ranks: dict[str, Any] = joined([read(path) for path in paths])
    return described | of_ranks
