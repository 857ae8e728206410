"""Spec of the network's shape."""

from typing import Self

from pydantic import Field, model_validator

from sedd.spec.conditions import ConditionsSpec
from sedd.yaml import StrictModel


class ModelSpec(StrictModel):
    """Time-conditioned bidirectional transformer; the defaults make 23,930,880 parameters."""

    hidden: int = Field(default=512, ge=8)
    """Width of the residual stream; a multiple of 8 x heads, as fp16 tensor cores and kernels want."""
    cond: int = Field(default=256, ge=8)
    """Width of the noise-level embedding that conditions every block."""
    blocks: int = Field(default=6, ge=1)
    """Number of transformer blocks."""
    heads: int = Field(default=8, ge=1)
    """Attention heads a block."""
    dropout: float = Field(default=0.1, ge=0, lt=1)
    """Probability with which an activation of a residual branch is dropped in training."""
    layer_dropout: float = Field(default=0.0, ge=0, lt=1)
    """Probability with which a protein skips a branch of the last block in training, attention or MLP; of L blocks the
    l-th has l / L of it (stochastic depth, arXiv 1603.09382). It saves no time: what is skipped is computed, too."""
    query_key_norm: bool = False
    """Divide each head's queries and keys by their root mean square before they are rotated; queries are then times a
    learnt gain of the head (arXiv 2010.04245, 2302.05442)."""
    value_residual: bool = False
    """Add the first block's values, with a learnt weight, to those of every later block, which have a weight of their
    own: they start at 0 and 1 (arXiv 2410.17897)."""
    conditions: ConditionsSpec | None = None
    """Labels of proteins that the network is told; absent: none, and the network is as without this field."""

    @model_validator(mode="after")
    def _head_dim_fits_the_kernels(self) -> Self:
        if self.hidden % (8 * self.heads):
            raise ValueError(
                f"hidden {self.hidden} is not a multiple of 8 x heads = {8 * self.heads}: "
                "attention kernels below sm_80 take head sizes that are multiples of 8"
            )
        return self

    @model_validator(mode="after")
    def _mixes_into_something(self) -> Self:
        if self.value_residual and self.blocks == 1:
            raise ValueError("value_residual adds the first block's values to later ones': blocks is 1")
        return self
