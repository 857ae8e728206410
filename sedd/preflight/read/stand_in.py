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


def missing_bytes(experiment: Experiment, *, capability: tuple[int, int] | None) -> int:
    """By the formulas, what the experiment takes of a card more than steps of its stand-in; less than 0 where less.

    These steps are of one rank, of one micro-batch, and no graphs.
    """
    residues, small = experiment.training.micro_batch_residues, stand_in(experiment)
    alone = {"nodes": 1, "gpus_per_node": 1, "processes_per_node": 1}
    steps = {"cuda_graphs": False, "residues_per_step": residues, "reduction": "all_reduce"}
    measured = small.model_copy(
        update={
            "resources": small.resources.model_copy(update=alone),
            "training": small.training.model_copy(update=steps),
        }
    )
    as_asked = gpu_bytes(experiment, residues, capability=capability)
    return as_asked - gpu_bytes(measured, residues, capability=capability)
