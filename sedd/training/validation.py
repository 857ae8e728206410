"""Validate: the true likelihood bound on a fixed set with EMA weights, the same for any number of ranks."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from sedd.training.distributed import Group
from sedd.training.loader import DeviceBatch
from sedd.training.network import Network
from sedd.training.seeds import VALIDATION, counter_seed, unit_interval
from sedd.training.train_state import TrainState


@dataclass(frozen=True, slots=True)
class Validation:
    """The fixed set and its fixed noise: two validations differ by the weights alone."""

    network: Network
    batches: Sequence[DeviceBatch]
    seed: int
    group: Group

    def __call__(self, state: TrainState, on_batch: Callable[[], None]) -> float:
        """Likelihood bound in nats per residue; each rank takes its share of the batches."""
        ranks, device = self.group.ranks, state.loss_sum.device
        sums = torch.zeros(len(self.batches), dtype=torch.float64, device=device)
        state.model.eval()
        try:
            with torch.no_grad(), state.ema.applied():
                for number in range(ranks.rank, len(self.batches), ranks.size):
                    sums[number] = self._batch_sum(number)
                    on_batch()
        finally:
            state.model.train()
        # Every entry is non-zero on one rank only, so that this sum is exact and its order does not matter.
        total = self.group.sum_(sums).sum()
        return float(total) / sum(batch.tokens.numel() for batch in self.batches)

    def _batch_sum(self, number: int) -> torch.Tensor:
        """Sum of the bound over the residues of one batch."""
        return self.network.bound(
            self.batches[number],
            part=(number, len(self.batches)),
            time_offset=unit_interval(self.seed, VALIDATION),
            noise_seed=counter_seed(self.seed, VALIDATION, number),
        )


def perplexity(nats: float) -> float:
    """exp of nats per residue; infinite where that overflows."""
    return math.exp(nats) if nats < 700 else math.inf
