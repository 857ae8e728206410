"""`Experiment`: the spec of a training. Torch-free."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from sedd.spec.data import DataSpec
from sedd.spec.diffusion import DiffusionSpec
from sedd.spec.model import ModelSpec
from sedd.spec.task import TaskSpec
from sedd.spec.tracking import TrackingSpec
from sedd.spec.training import TrainingSpec


class Experiment(TaskSpec):
    """One training, resolved: a sweep has become many of these before anything is submitted."""

    task: Literal["train"] = "train"
    """Selects training; the default."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """Everything random follows from it and the step."""
    data: DataSpec
    """Which proteins."""
    model: ModelSpec = ModelSpec()
    """The network."""
    diffusion: DiffusionSpec = DiffusionSpec()
    """Forward process and objective."""
    training: TrainingSpec
    """Optimiser, batch, schedule."""
    tracking: TrackingSpec = TrackingSpec()
    """Weights & Biases."""

    @property
    def steps(self) -> int:
        """Optimiser steps of the whole run."""
        return self.training.steps

    @property
    def validated_on(self) -> dict[str, Path | int]:
        """What the proteins of its validation follow from: bounds on different ones cannot be compared."""
        return {
            "data.store": self.data.store,
            "data.max_length": self.data.max_length,
            "training.validation.residues": self.training.validation.residues,
        }

    def folders(self) -> tuple[Path, ...]:
        """The token stores, and where the network lies that the training starts from."""
        init = self.training.init
        return (*self.data.stores, *([init.network.parent] if init else []))

    @property
    def graph_obstacle(self) -> str | None:
        """What in the spec keeps gradients from being replayed as CUDA graphs."""
        training, diffusion = self.training, self.diffusion
        obstacles = {
            "shard: full gathers weights while gradients are computed": training.shard == "full"
            and self.resources.ranks > 1,
            "the network is not computed by the fused kernels": training.compile is True
            or training.kernels == "torch",
            "activation_checkpointing recomputes with random states that a graph cannot hold": (
                training.activation_checkpointing
            ),
            "the estimator counts could not be recorded": diffusion.estimator == "counts",
            "a curriculum changes the loss from step to step": diffusion.curriculum is not None,
        }
        return next((words for words, holds in obstacles.items() if holds), None)

    @model_validator(mode="after")
    def _ranks_pair(self) -> Self:
        ranks = self.resources.ranks
        if self.training.reduction == "ordered" and ranks & (ranks - 1):
            raise ValueError(
                f"training.reduction: ordered adds up in pairs: {ranks} processes are no power of two"
            )
        return self

    @model_validator(mode="after")
    def _ranks_share_matrices(self) -> Self:
        training, ranks = self.training, self.resources.ranks
        if training.shard != "none" and training.optimizer == "muon" and self.model.hidden % ranks:
            raise ValueError(
                f"training.shard with muon gives each of {ranks} processes as many rows of a matrix: "
                f"model.hidden {self.model.hidden} is no multiple"
            )
        return self

    @model_validator(mode="after")
    def _ranks_share_the_batch(self) -> Self:
        if self.training.residues_per_gpu == "auto":
            return self
        micro_batches, ranks = self.training.micro_batches_per_step, self.resources.ranks
        if micro_batches % ranks:
            passes = "forward pass" if micro_batches == 1 else "forward passes"
            raise ValueError(
                f"training.residues_per_step / residues_per_gpu = {micro_batches} {passes} "
                f"cannot be shared equally by {ranks} processes"
            )
        return self


def validated_differently(experiments: Iterable[TaskSpec]) -> list[str]:
    """Keys in which trainings differ so that their validations are of different proteins."""
    found = [each.validated_on for each in experiments if isinstance(each, Experiment)]
    return [key for key in found[0] if len({each[key] for each in found}) > 1] if found else []
