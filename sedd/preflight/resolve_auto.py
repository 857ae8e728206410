"""Resolve `training.residues_per_gpu: auto` to a number before a run folder is made."""

import dataclasses
import os

from sedd.cluster.profile import LocalProfile, Profile
from sedd.errors import SpecError
from sedd.preflight.read.cards import memory_of_a_card
from sedd.preflight.read.device import capability_of_a_card
from sedd.preflight.read.footprint import FITS, largest_fit
from sedd.spec.experiment import Experiment
from sedd.spec.load import Request
from sedd.spec.task import TaskSpec
from sedd.units import format_bytes

ON_A_CPU = 16_384
"""Residues of a forward pass there: more make it no faster."""


def resolve_auto(request: Request, profile: Profile) -> Request:
    """The request with a number wherever it says auto: the most residues that a card of this profile holds.

    Raises:
        SpecError: the card's memory is not known, or holds no batch.
    """
    at_once = min(request.parallel or 1, len(request.experiments))
    return dataclasses.replace(
        request,
        experiments=tuple(_resolved(experiment, profile, at_once) for experiment in request.experiments),
    )


def _resolved(experiment: TaskSpec, profile: Profile, at_once: int) -> TaskSpec:
    if not isinstance(experiment, Experiment) or experiment.training.residues_per_gpu != "auto":
        return experiment
    training = experiment.training.model_copy(
        update={"residues_per_gpu": _most(experiment, profile, at_once)}
    )
    # Validated again: the number must share the global batch equally among the ranks.
    return Experiment.model_validate(
        experiment.model_dump(mode="json") | {"training": training.model_dump(mode="json")}
    )


def _most(experiment: Experiment, profile: Profile, at_once: int) -> int:
    """`at_once`: runs of the request that go on at the same time on this machine, if they run here."""
    if experiment.resources.gpus_per_node == 0:
        return _on_a_cpu(experiment)
    here = at_once * experiment.resources.gpus_per_node if isinstance(profile, LocalProfile) else None
    card_bytes = memory_of_a_card(profile, os.environ, here=here)
    if card_bytes is None:
        raise SpecError(
            "training.residues_per_gpu is auto, but the memory of the card is not known",
            hint="write gpu: {memory: 32GiB} in the cluster profile, or a number in the spec",
        )
    capability = capability_of_a_card(profile, os.environ, here=here)
    most = largest_fit(experiment, int(FITS * card_bytes), capability=capability)
    if most is None:
        raise SpecError(
            f"training.residues_per_gpu is auto, but no share of residues_per_step "
            f"{experiment.training.residues_per_step} fits into {format_bytes(card_bytes)}",
            hint="training.activation_checkpointing: true, or a smaller model",
        )
    return most


def _on_a_cpu(experiment: Experiment) -> int:
    total, ranks = experiment.training.residues_per_step, experiment.resources.ranks
    shares = (share for share in range(ranks, total + 1, ranks) if total % share == 0)
    most = next((total // share for share in shares if total // share <= ON_A_CPU), None)
    if most is None:
        raise SpecError(f"training.residues_per_step {total} cannot be shared equally by {ranks} processes")
    return most
