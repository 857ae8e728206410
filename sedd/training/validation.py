"""Validate: the true likelihood bound on a fixed set with EMA weights, the same for any number of ranks."""

import hashlib
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from sedd.rundir.validation_rows import ValidationRow
from sedd.training.distributed import Group
from sedd.training.loader import DeviceBatch
from sedd.training.network import Network
from sedd.training.seeds import VALIDATION, counter_seed, unit_interval
from sedd.training.train_state import TrainState

BLOCKS = 64
"""Of the fixed set: enough to tell how two networks' difference varies over proteins, and few enough to write down."""


@dataclass(frozen=True, slots=True)
class Validated:
    """What one validation found."""

    nats_per_residue: float
    """The likelihood bound."""
    block_nats: tuple[float, ...]
    """Its sum over the residues of each block."""


@dataclass(frozen=True, slots=True)
class Blocks:
    """The fixed set cut into blocks of whole proteins, the same however it is packed into batches."""

    pieces: tuple[tuple[tuple[int, int, int], ...], ...]
    """Of each batch: (block, first residue, the one after its last)."""
    residues: tuple[int, ...]
    proteins: str
    """Hash of the set."""


def cut_into_blocks(batches: Sequence[DeviceBatch]) -> Blocks:
    """At most `BLOCKS` runs of consecutive proteins, of equal numbers of them."""
    count, first = sum(batch.sequences for batch in batches), 0
    number = min(BLOCKS, count)
    pieces, residues = [], [0] * number
    for batch in batches:
        edges = batch.cu_seqlens.tolist()
        owner = [(first + k) * number // count for k in range(batch.sequences)]
        starts = [k for k in range(batch.sequences) if k == 0 or owner[k] != owner[k - 1]]
        ends = [*starts[1:], batch.sequences]
        cut = tuple((owner[a], edges[a], edges[b]) for a, b in zip(starts, ends, strict=True))
        for block, low, high in cut:
            residues[block] += high - low
        pieces.append(cut)
        first += batch.sequences
    return Blocks(tuple(pieces), tuple(residues), _hash_of(batches))


def _hash_of(batches: Sequence[DeviceBatch]) -> str:
    parts = [batch.tokens for batch in batches] + [torch.diff(batch.cu_seqlens) for batch in batches]
    content = b"".join(part.cpu().numpy().astype("<i8").tobytes() for part in parts)
    return hashlib.blake2b(content, digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Validation:
    """The fixed set and its fixed noise: two validations differ by the weights alone."""

    network: Network
    batches: Sequence[DeviceBatch]
    blocks: Blocks
    seed: int
    group: Group

    def __call__(self, state: TrainState, on_batch: Callable[[], None]) -> Validated:
        """Likelihood bound in nats per residue; each rank takes its share of the batches."""
        ranks, device = self.group.ranks, state.loss_sum.device
        # A row for whole batches, one for each block.
        shape = 1 + len(self.blocks.residues), len(self.batches)
        sums = torch.zeros(shape, dtype=torch.float64, device=device)
        state.model.eval()
        try:
            with torch.no_grad(), state.ema.applied():
                for number in range(ranks.rank, len(self.batches), ranks.size):
                    sums[:, number] = self._sums(number)
                    on_batch()
                if self.network.is_sharded and ranks.rank >= len(self.batches) % ranks.size > 0:
                    self._sums(0)  # the ranks that have a batch more need this one's weights
        finally:
            state.model.train()
        # Every entry is non-zero on one rank only, so that this sum is exact and its order does not matter.
        total = self.group.sum_(sums).sum(1)
        return Validated(float(total[0]) / sum(self.blocks.residues), tuple(total[1:].tolist()))

    def row(self, step: int, found: Validated) -> ValidationRow:
        """What is kept of it for comparisons."""
        return ValidationRow(
            step=step,
            proteins=self.blocks.proteins,
            noise=self.seed,
            residues=self.blocks.residues,
            nats=found.block_nats,
        )

    def _sums(self, number: int) -> torch.Tensor:
        """[1 + blocks]: sums of the bound over the residues of one batch, and over those in each block."""
        terms = self.network.bound(
            self.batches[number],
            part=(number, len(self.batches)),
            time_offset=unit_interval(self.seed, VALIDATION),
            noise_seed=counter_seed(self.seed, VALIDATION, number),
        )
        sums = torch.zeros(1 + len(self.blocks.residues), dtype=torch.float64, device=terms.device)
        sums[0] = terms.sum(dtype=torch.float64)
        for block, low, high in self.blocks.pieces[number]:
            sums[1 + block] = terms[low:high].sum(dtype=torch.float64)
        return sums


def perplexity(nats: float) -> float:
    """exp of nats per residue; infinite where that overflows, and NaN of NaN."""
    return math.inf if nats > 700 else math.exp(nats)
