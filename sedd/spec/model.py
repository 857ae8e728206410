"""Spec of the network's shape."""

from typing import Any, Self

from pydantic import Field, model_validator

from sedd.spec.conditions import ConditionsSpec
from sedd.yaml import StrictModel

_REMOVED = {"layer_dropout": 0.0, "query_key_norm": False, "value_residual": False}
"""Fields that were removed, and the values at which they did nothing: specs resolved on 30 November 2026 hold them."""


def neighbour_columns(hidden: int) -> int:
    """How many columns of a residue the token shift takes from one neighbour: a sixteenth, in fours."""
    return max(4, hidden // 64 * 4)


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
    token_shift: int = Field(default=0, ge=0)
    """N: a sixteenth of what attention and MLP read of a residue comes from each of the N residues before and after it;
    0: none. 4 is the best known. Local patterns are learnt sooner. It takes no parameters and, with fused kernels, next
    to no time."""
    conditions: ConditionsSpec | None = None
    """Labels of proteins that the network is told; absent: none, and the network is as without this field."""

    @model_validator(mode="before")
    @classmethod
    def _without_removed_fields(cls, fields: Any) -> Any:
        """Read the spec of a run or a checkpoint that holds removed fields at values that did nothing."""
        if not isinstance(fields, dict):
            return fields
        if fields.get("token_shift") is False:  # as the same specs say 0
            fields = fields | {"token_shift": 0}
        return {
            name: value for name, value in fields.items() if name not in _REMOVED or value != _REMOVED[name]
        }

    @model_validator(mode="after")
    def _columns_suffice_for_the_shift(self) -> Self:
        most = self.hidden // (2 * neighbour_columns(self.hidden))
        if self.token_shift > most:
            raise ValueError(
                f"token_shift {self.token_shift} takes columns from {2 * self.token_shift} residues, "
                f"and hidden {self.hidden} has enough for {2 * most}: at most {most}"
            )
        return self

    @model_validator(mode="after")
    def _head_dim_fits_the_kernels(self) -> Self:
        if self.hidden % (8 * self.heads):
            raise ValueError(
                f"hidden {self.hidden} is not a multiple of 8 x heads = {8 * self.heads}: "
                "attention kernels below sm_80 take head sizes that are multiples of 8"
            )
        return self
