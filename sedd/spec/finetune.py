"""Spec of a training that starts from a trained network: its weights, and which of them go on learning."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, field_validator, model_validator

from sedd.yaml import StrictModel


class InitSpec(StrictModel):
    """The network to start from, its parent; a path alone stands for `network`."""

    network: Path
    """A run's folder, runs/NAME (its newest run; of a sweep the point with the lowest validation bound), a checkpoint
    or an exported folder; relative to the spec's own folder."""
    weights: Literal["ema", "raw"] = "ema"
    """The parent's weights averaged over its training, or as trained; of an export those that it holds."""
    optimizer: bool = False
    """Take over the optimiser's moments, too: of a run or checkpoint with the same optimiser, with raw weights."""
    validation: Path | None = None
    """The parent's token store, to see on its validation proteins what is forgotten; absent: where its spec says."""

    @model_validator(mode="after")
    def _moments_belong_to_raw_weights(self) -> Self:
        if self.optimizer and self.weights != "raw":
            raise ValueError("optimizer: true takes over moments of the raw weights: write weights: raw")
        return self


class LoraSpec(StrictModel):
    """Low-rank adapters, Hu et al. 2021 (arXiv 2106.09685): W + alpha / rank * B A, of which only A and B learn."""

    rank: int = Field(default=8, ge=1)
    """Rows of A and columns of B."""
    alpha: float = Field(default=16.0, gt=0)
    """Scale of what the adapters add, in units of 1 / rank."""
    matrices: tuple[Literal["qkv", "out", "up", "down", "modulation"], ...] = Field(
        default=("qkv", "out", "up", "down"), min_length=1
    )
    """Which matrices of every block: of attention, of the MLP, of the noise level's scales and shifts."""

    @field_validator("matrices")
    @classmethod
    def _once_each(cls, matrices: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys(matrices))


def _path_alone(value: Any) -> Any:
    return {"network": value} if isinstance(value, str | Path) else value


Init = Annotated[InitSpec, BeforeValidator(_path_alone, json_schema_input_type=Path | InitSpec)]
"""`init: ../runs/parent`, or a section with further fields."""
