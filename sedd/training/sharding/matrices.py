"""Muon on rows: each matrix is brought to one rank, orthogonalised there, and its rows are sent back.

Of as many matrices of one shape as there are ranks each rank makes one, so the work is shared, too. Every rank's
rows are as many: the spec refuses other widths. No rank ever holds all matrices.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from sedd.training.distributed import Ranks
from sedd.training.muon import orthogonalise


class ByTurns:
    """Orthogonalise matrices of which each rank has its equal share of rows."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks.size

    def __call__(
        self, directions: Sequence[Tensor], parts: Sequence[int], dtype: torch.dtype
    ) -> list[tuple[list[Tensor], int]]:
        """As `muon.together` does of whole matrices; each direction is this rank's rows of one."""
        alike: dict[tuple[torch.Size, int], list[Tensor]] = {}
        for direction, count in zip(directions, parts, strict=True):
            alike.setdefault((direction.shape, count), []).append(direction)
        made = {
            (shape, count): iter(self._orthogonalised(torch.stack(found), count, dtype))
            for (shape, count), found in alike.items()
        }
        return [
            ([next(made[own.shape, count])], max(own.shape[0] * self._ranks // count, own.shape[1]))
            for own, count in zip(directions, parts, strict=True)
        ]

    def _orthogonalised(self, rows: Tensor, parts: int, dtype: torch.dtype) -> Tensor:
        """Rows [count, rows, columns] of `count` weights, each of `parts` matrices."""
        count, height, width = rows.shape
        turns = -(-count // self._ranks)
        sent = torch.zeros(self._ranks * turns, height, width, dtype=rows.dtype, device=rows.device)
        sent[:count] = rows
        # [rank that makes it, turn, rows, columns] → [rank whose rows they are, turn, rows, columns]
        got = torch.empty_like(sent)
        dist.all_to_all_single(got, sent)
        weights = got.view(self._ranks, turns, height, width).transpose(0, 1)
        matrices = weights.reshape(turns * parts, self._ranks * height // parts, width)
        made = orthogonalise(matrices, dtype).view(turns, self._ranks, height, width)
        dist.all_to_all_single(got, made.transpose(0, 1).contiguous().view_as(got))
        return got[:count]
