"""The rows of every parameter that a rank keeps, averages, and lets the optimiser change.

`ReplicatedShards`: each rank has all weights and gradients, and changes its rows (ZeRO stage 1, Rajbhandari et al.
2020, arXiv 1910.02054); the others' come from them after each step. `FsdpShards`: each rank has nothing but its rows.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from sedd.errors import RunError
from sedd.spec.training import TrainingSpec
from sedd.training.distributed import Ranks
from sedd.training.sharding.rows import rows_of_rank

_BUCKET = 1 << 24
"""Numbers that are gathered at a time: 64 MiB of fp32."""
_gather = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor  # its name up to torch 2.12


@dataclass(frozen=True, slots=True)
class Shard:
    """A rank's rows of one parameter."""

    name: str
    parameter: nn.Parameter
    """All rows; under FSDP a DTensor."""
    own: nn.Parameter
    """This rank's, in the parameter's own memory: what the optimiser is given."""
    start: int
    rows: int
    """Of the whole parameter."""
    is_whole: bool
    """Whether every rank has all rows, and changes them alike. Not by `own`: of a single row the first rank has all."""


class Shards(ABC):
    """The shards of a network's parameters, in their order."""

    def __init__(self, model: nn.Module, ranks: Ranks) -> None:
        self.ranks = ranks
        self.all = [self._shard(name, parameter) for name, parameter in model.named_parameters()]
        self.trained = [shard for shard in self.all if shard.own.requires_grad]
        self._by_parameter = {id(shard.parameter): shard for shard in self.all}
        self._by_own = {id(shard.own): shard for shard in self.all}

    def own(self, parameter: Tensor) -> nn.Parameter:
        """This rank's rows of a parameter."""
        return self._by_parameter[id(parameter)].own

    @torch.no_grad()
    def copy(self, parameter: Tensor, values: Tensor) -> None:
        """Give a parameter its values, all of which are here on every rank."""
        shard = self._by_parameter[id(parameter)]
        shard.own.copy_(values[shard.start : shard.start + shard.own.shape[0]])

    def of_own(self, own: Tensor) -> Shard:
        """The shard whose `own` this is."""
        return self._by_own[id(own)]

    def drop_gradients(self) -> None:
        """After a step."""
        for shard in self.trained:
            shard.parameter.grad = shard.own.grad = None

    def _shard(self, name: str, parameter: nn.Parameter) -> Shard:
        rows = parameter.shape[0]
        start, stop = self._bounds(parameter)
        own = nn.Parameter(self._rows(parameter, start, stop), requires_grad=parameter.requires_grad)
        if (scale := getattr(parameter, "rate_scale", None)) is not None:
            own.rate_scale = scale  # type: ignore[attr-defined] # ours, for optimisers
        return Shard(name, parameter, own, start, rows, self._is_whole(parameter))

    def _is_whole(self, parameter: nn.Parameter) -> bool:
        """Whether this parameter is not cut."""
        return False

    def _bounds(self, parameter: nn.Parameter) -> tuple[int, int]:
        rows = parameter.shape[0]
        return (
            (0, rows) if self._is_whole(parameter) else rows_of_rank(rows, self.ranks.rank, self.ranks.size)
        )

    @abstractmethod
    def _rows(self, whole: Tensor, start: int, stop: int) -> Tensor:
        """A rank's rows of a parameter or of a gradient, in its memory."""

    def bring_gradients(self) -> None:
        """Give each rank's rows their gradient."""
        for shard in self.trained:
            gradient, stop = shard.parameter.grad, shard.start + shard.own.shape[0]
            shard.own.grad = None if gradient is None else self._rows(gradient, shard.start, stop)

    @abstractmethod
    def spread_weights(self) -> None:
        """Where each rank has all weights: give all ranks the trained ones that each has changed."""

    @abstractmethod
    def spread_all_weights(self) -> None:
        """The same with those that are not trained."""

    @abstractmethod
    def gradient_norm(self, owns: Sequence[Tensor]) -> Tensor:
        """The norm of the whole gradient of these shards, the same on every rank."""


class ReplicatedShards(Shards):
    """Shards of weights and gradients that each rank has whole."""

    def _is_whole(self, parameter: nn.Parameter) -> bool:
        # Vectors are small, and a part of one may round otherwise: fused AdamW on a CPU takes numbers by the eight.
        return parameter.ndim < 2

    def _rows(self, whole: Tensor, start: int, stop: int) -> Tensor:
        return whole.detach()[start:stop]

    @torch.no_grad()
    def copy(self, parameter: Tensor, values: Tensor) -> None:
        parameter.copy_(values)

    @torch.no_grad()
    def spread_weights(self) -> None:
        self._spread_in_buckets(self.trained)

    @torch.no_grad()
    def spread_all_weights(self) -> None:
        self._spread_in_buckets(self.all)

    def _spread_in_buckets(self, shards: Sequence[Shard]) -> None:
        """Gather all ranks' rows, a bucket of parameters at a time."""
        bucket: list[Shard] = []
        for shard in (each for each in shards if not each.is_whole):
            if bucket and (self._most(bucket) + self._most([shard])) * self.ranks.size > _BUCKET:
                self._spread(bucket)
                bucket = []
            bucket.append(shard)
        if bucket:
            self._spread(bucket)

    def gradient_norm(self, owns: Sequence[Tensor]) -> Tensor:
        # Of whole tensors: with the bits that it has without shards.
        return get_total_norm(_gradients([self.of_own(own).parameter for own in owns]), foreach=True)

    def _most(self, bucket: Sequence[Shard]) -> int:
        """Numbers of the first rank, which has the most."""
        size = self.ranks.size
        return sum(-(-shard.rows // size) * shard.parameter[0].numel() for shard in bucket)

    def _spread(self, bucket: Sequence[Shard]) -> None:
        like, most, ranks = bucket[0].own, self._most(bucket), self.ranks
        sent = torch.zeros(most, dtype=like.dtype, device=like.device)
        torch._foreach_copy_(_cut(sent, bucket, ranks, ranks.rank), [shard.own.detach() for shard in bucket])
        got = sent.new_empty(ranks.size, most)
        _gather(got.view(-1), sent)
        for rank in range(ranks.size):
            if rank != ranks.rank:
                bounds = [rows_of_rank(shard.rows, rank, ranks.size) for shard in bucket]
                targets = [s.parameter.detach()[a:b] for s, (a, b) in zip(bucket, bounds, strict=True)]
                torch._foreach_copy_(targets, _cut(got[rank], bucket, ranks, rank))


def _cut(flat: Tensor, bucket: Sequence[Shard], ranks: Ranks, rank: int) -> list[Tensor]:
    """The rows of a rank where they lie in what it sends."""
    views, place = [], 0
    for shard in bucket:
        start, stop = rows_of_rank(shard.rows, rank, ranks.size)
        shape = (stop - start, *shard.parameter.shape[1:])
        count = (stop - start) * shard.parameter[0].numel()
        views.append(flat[place : place + count].view(shape))
        place += -(-shard.rows // ranks.size) * shard.parameter[0].numel()
    return views


class FsdpShards(Shards):
    """Shards of a network that FSDP2 has cut: nothing else is kept of it between its layers' turns."""

    def _rows(self, whole: Tensor, start: int, stop: int) -> Tensor:
        own = cast(Any, whole).to_local().detach()
        if own.shape[0] != stop - start:
            raise RunError(f"FSDP gives this rank {own.shape[0]} rows where {stop - start} are expected")
        return cast(Tensor, own)

    def spread_weights(self) -> None:
        """FSDP gathers a layer when its turn comes. Raises: RunError: it has moved its rows elsewhere."""
        for shard in self.trained:
            if cast(Any, shard.parameter).to_local().data_ptr() != shard.own.data_ptr():
                raise RunError(
                    f"FSDP has moved {shard.name}: this version of torch cannot be used for shard: full"
                )

    def spread_all_weights(self) -> None:
        self.spread_weights()

    def gradient_norm(self, owns: Sequence[Tensor]) -> Tensor:
        square = get_total_norm(_gradients(owns), foreach=True).square()
        dist.all_reduce(square)
        return square.sqrt()


def _gradients(tensors: Sequence[Tensor]) -> list[Tensor]:
    return [tensor.grad for tensor in tensors if tensor.grad is not None]


def find_shards(model: nn.Module, spec: TrainingSpec, ranks: Ranks) -> Shards | None:
    """This rank's part of a network that is trained so; None where each rank keeps all."""
    return None if spec.shard == "none" or ranks.size == 1 else SHARDS[spec.shard](model, ranks)


SHARDS: dict[str, Callable[[nn.Module, Ranks], Shards]] = {"optimizer": ReplicatedShards, "full": FsdpShards}
