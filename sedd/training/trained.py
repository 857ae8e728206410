"""A trained network, read from a checkpoint alone: with its EMA weights, ready to be evaluated and sampled from."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sedd.diffusion.bound import LogScore
from sedd.diffusion.objective import Objective
from sedd.errors import CheckpointError
from sedd.model.transformer import Transformer
from sedd.rundir.layout import RunDir
from sedd.spec.experiment import Experiment
from sedd.training.checkpoint import newest_whole, read_checkpoint
from sedd.training.network import build_objective
from sedd.training.precision import Precision
from sedd.yaml import parse_document, validate


@dataclass(frozen=True, slots=True)
class Trained:
    """A network and all that its checkpoint says about it."""

    experiment: Experiment
    model: Transformer
    objective: Objective
    precision: Precision
    run: str
    """`name/id` of its run."""
    step: int
    length_quantiles: Tensor
    """int64 [1001]: lengths in the training data at 0, 0.1, …, 100 %."""
    composition: Tensor
    """int64 [33]: how often each token occurs in the training data."""

    def log_score(self, cu_seqlens: Tensor, max_length: int) -> LogScore:
        """The log score for sequences packed as `cu_seqlens`: (x [tokens], sigma_bar [sequences]) → [tokens, 33]."""

        def network(x: Tensor, sigma_bar: Tensor) -> Tensor:
            with torch.no_grad(), self.precision.autocast(x.device):
                raw: Tensor = self.model(x, cu_seqlens, sigma_bar.float(), max_length=max_length)
            return raw.float()

        return self.objective.log_score(network, cu_seqlens)


def find_checkpoint(run: RunDir) -> Path:
    """The newest whole checkpoint of a run. Raises: CheckpointError when there is none yet."""
    path = newest_whole(run.checkpoints)
    if path is None:
        raise CheckpointError(f"{run.path} has no whole checkpoint yet", hint=f"sedd status {run.id}")
    return path


def load_trained(path: Path, device: torch.device, choose: Callable[[str], Precision]) -> Trained:
    """Read a checkpoint; `choose` turns the spec's precision into one that the device has.

    Raises:
        CheckpointError: not a checkpoint, or damaged.
    """
    saved = read_checkpoint(path)
    experiment = validate(Experiment, parse_document(saved["spec"], name=str(path)))
    model = Transformer(experiment.model)
    model.load_state_dict(saved["model"] | saved["ema"]["averages"])
    return Trained(
        experiment=experiment,
        model=model.to(device).eval().requires_grad_(False),
        objective=build_objective(experiment.diffusion),
        precision=choose(experiment.training.precision),
        run=str(saved["run"]),
        step=int(saved["step"]),
        length_quantiles=torch.tensor(saved["length_quantiles"]),
        composition=torch.tensor(saved["composition"]),
    )
