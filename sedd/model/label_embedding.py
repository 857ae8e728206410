"""Embeds labels of proteins beside the noise level: a row a value, or features of a number; and a row for none.

Everything starts at zero, so that a network begins as the one without conditions.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sedd.model.embedding import Embedding
from sedd.model.size import WAVES
from sedd.spec.conditions import CategorySpec, ConditionsSpec, NumberSpec

_FARTHEST = 8.0
"""Standard deviations: numbers beyond count as this far."""


class CategoryEmbedding(nn.Module):
    """A row of `weight` for each value; row 0 is that of sequences without this label."""

    def __init__(self, spec: CategorySpec, cond: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(spec.values + 1, cond))

    def forward(self, labels: Float[Tensor, "sequences"]) -> Float[Tensor, "sequences cond"]:
        """`labels` are numbers of values from 0 on, NaN where there is none."""
        rows = torch.where(labels.isnan(), -1.0, labels).long() + 1
        found: Tensor = Embedding.rows(self.weight, rows)
        return found


class NumberEmbedding(nn.Module):
    """Features of a standardised number z times `weight`: itself, and sin and cos of 2^k z; row 0 stands for none."""

    def __init__(self, spec: NumberSpec, cond: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3 + 2 * WAVES, cond))

    def forward(self, labels: Float[Tensor, "sequences"]) -> Float[Tensor, "sequences cond"]:
        """`labels` are standardised numbers, NaN where there is none."""
        absent = labels.isnan()
        z = torch.where(absent, 0.0, labels).clamp(-_FARTHEST, _FARTHEST).unsqueeze(-1)
        angles = z * 2.0 ** torch.arange(-1, WAVES - 1, device=labels.device, dtype=z.dtype)
        present = torch.cat((torch.ones_like(z), z, angles.sin(), angles.cos()), dim=-1)
        none = absent.unsqueeze(-1).to(z.dtype)
        features = torch.cat((none, present * (1 - none)), dim=-1).to(self.weight.dtype)
        # Features by rows, summed by hand: autocast would round a product of matrices to half precision.
        return (features.unsqueeze(-1) * self.weight).sum(1)


LABEL_EMBEDDINGS: dict[str, type[CategoryEmbedding] | type[NumberEmbedding]] = {
    "category": CategoryEmbedding,
    "number": NumberEmbedding,
}
"""By the `kind` of a field."""


class LabelEmbedding(nn.Module):
    """The sum of all fields' embeddings, which is added to the noise level's."""

    def __init__(self, spec: ConditionsSpec, cond: int) -> None:
        super().__init__()
        embeddings: Mapping[str, nn.Module] = {
            name: LABEL_EMBEDDINGS[field.kind](field, cond)  # type: ignore[arg-type] # the kind's own spec
            for name, field in spec.fields.items()
        }
        self.fields = nn.ModuleDict(embeddings)

    def forward(self, labels: Float[Tensor, "sequences fields"]) -> Float[Tensor, "sequences cond"]:
        """`labels` in the order of the spec's fields, NaN where there is none."""
        parts = [embed(labels[:, place]) for place, embed in enumerate(self.fields.values())]
        return torch.stack(parts).sum(0)

    def without(self, sequences: int, device: torch.device) -> Float[Tensor, "{sequences} fields"]:
        """Labels of sequences of which nothing is known."""
        return torch.full((sequences, len(self.fields)), torch.nan, device=device)
