"""A network for a check on one card, of a spec whose weights or moments are spread over many."""

from sedd.preflight.read.footprint import gpu_bytes
from sedd.spec.experiment import Experiment

_BLOCKS = 2


def stand_in(experiment: Experiment) -> Experiment:
    """The same experiment for one rank, with few blocks where the spec spreads its state: all blocks are alike."""
    if experiment.training.shard == "none" or experiment.resources.ranks == 1:
        return experiment
    model = experiment.model.model_copy(update={"blocks": min(_BLOCKS, experiment.model.blocks)})
    training = experiment.training.model_copy(update={"shard": "none"})
    return experiment.model_copy(update={"model": model, "training": training})


def missing_bytes(experiment: Experiment) -> int:
    """By the formulas, what the experiment takes of a card more than its stand-in; less than 0 where it takes less."""
    residues = experiment.training.micro_batch_residues
    return gpu_bytes(experiment, residues) - gpu_bytes(stand_in(experiment), residues)
