"""Loss scaling where each rank sees its own rows of the gradient alone.

torch's `ShardedGradScaler` does the same, but hands on a flag of a shape that fused AdamW refuses (torch 2.13).
"""

import torch
import torch.distributed as dist
from torch.optim import Optimizer


class ShardScaler(torch.amp.GradScaler):
    """A scaler whose finding, that a gradient is not finite, is that of any rank."""

    def unscale_(self, optimizer: Optimizer) -> None:
        """Divide this rank's gradients by the scale; every rank calls it."""
        super().unscale_(optimizer)
        if self.is_enabled():
            for found in self._per_optimizer_states[id(optimizer)]["found_inf_per_device"].values():
                dist.all_reduce(found, op=dist.ReduceOp.MAX)
