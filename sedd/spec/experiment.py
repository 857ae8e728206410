"""`Experiment`: everything that a job may ask for. Torch-free."""

import hashlib
import json
from typing import Annotated, Self

from pydantic import Field, StringConstraints, model_validator

from sedd.spec.data import DataSpec
from sedd.spec.diffusion import DiffusionSpec
from sedd.spec.model import ModelSpec
from sedd.spec.resources import ResourcesSpec
from sedd.spec.retry import RetrySpec
from sedd.spec.tracking import TrackingSpec
from sedd.spec.training import TrainingSpec
from sedd.yaml import StrictModel

Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class Experiment(StrictModel):
    """One run, resolved: a sweep has become many of these before anything is submitted."""

    name: Name
    """Letters, digits, `.`, `_`, `-`; names the run's folder, job and W&B group."""
    seed: int = Field(default=0, ge=0)
    """Everything random follows from it and the step."""
    data: DataSpec
    """Which proteins."""
    model: ModelSpec = ModelSpec()
    """The network."""
    diffusion: DiffusionSpec = DiffusionSpec()
    """Forward process and objective."""
    training: TrainingSpec
    """Optimiser, batch, schedule."""
    resources: ResourcesSpec = ResourcesSpec()
    """What one attempt asks of the cluster."""
    retry: RetrySpec = RetrySpec()
    """How often to start again."""
    tracking: TrackingSpec = TrackingSpec()
    """Weights & Biases."""

    @model_validator(mode="after")
    def _ranks_share_the_batch(self) -> Self:
        micro_batches, ranks = self.training.micro_batches_per_step, self.resources.ranks
        if micro_batches % ranks:
            raise ValueError(
                f"training.residues_per_step / residues_per_gpu = {micro_batches} forward passes "
                f"cannot be shared equally by {ranks} processes"
            )
        return self

    def hash(self) -> str:
        """Twelve hex digits that change with any field: the identity of what is asked for."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:12]
