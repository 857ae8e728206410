"""Diffusion times spread evenly over a batch, which removes most of the loss's variance."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

T_MIN = 1e-3
"""Smallest diffusion time of training and of sampling."""

_GOLDEN_RATIO = 0.6180339887498949


def lattice(
    index: Int[Tensor, "sequences"], *, offset: float = 0.0, dtype: torch.dtype = torch.float32
) -> Float[Tensor, "sequences"]:
    """Uniforms in [0, 1) by the golden-ratio sequence: any run of consecutive indices covers [0, 1) evenly.

    A pure function of the index: how the sequences are spread over batches and ranks does not enter.
    """
    u = (index.double() * _GOLDEN_RATIO + offset) % 1.0
    return u.to(dtype).clamp_max(1 - torch.finfo(dtype).eps)


def diffusion_times(u: Float[Tensor, "sequences"], *, t_min: float = T_MIN) -> Float[Tensor, "sequences"]:
    """Map uniforms in [0, 1] to times in [t_min, 1]."""
    return t_min + (1 - t_min) * u
