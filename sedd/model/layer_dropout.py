"""Drop whole branches in training, the more often the deeper they lie: Huang et al. 2016 (arXiv 1603.09382)."""

import torch
from jaxtyping import Float
from torch import Tensor


def branch_factors(
    u: Float[Tensor, "sequences branches"], rate: float
) -> Float[Tensor, "sequences branches"]:
    """What the gate of each branch is multiplied by: 0 with its block's chance p, else 1 / (1 - p).

    Of L blocks the l-th, from 1 on, has p = rate l / L. Each has two branches, attention and MLP, which are dropped
    independently, for a whole sequence. `u` are uniforms in [0, 1).
    """
    blocks = u.shape[1] // 2
    depth = torch.arange(2, 2 * blocks + 2, device=u.device) // 2
    chance = depth.to(u.dtype) * (rate / blocks)
    return (u >= chance) / (1 - chance)
