"""Weights, optimiser state and activations, against the memory of one card, which one process alone may take."""

from dataclasses import dataclass, replace

from sedd.model.size import parameter_count
from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, fail, ok, unknown, warn
from sedd.preflight.read.cards import memory_of_a_card
from sedd.preflight.read.device import weakest_capability
from sedd.preflight.read.footprint import FITS, assumes_replay, gpu_bytes, largest_fit
from sedd.spec.experiment import Experiment
from sedd.units import counted, format_bytes, format_count

_SURE = 1.15
_SPREADS_MORE = {"none": "optimizer", "optimizer": "full"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    parameters: int
    residues_per_gpu: int
    needed_bytes: int
    card_bytes: int | None
    fitting: int | None
    """The largest residues_per_gpu that fits."""
    recomputes: bool
    shard: str | None = None
    """What spreads more of the state over the ranks, if there is any such choice."""
    processes: int = 1
    gpus: int = 1
    """Both of a node."""
    is_guess: bool = False
    """Whether the card is not known, and is taken for one on which gradients are replayed."""


def gather(context: CheckContext) -> Facts | None:
    experiment = context.training_run
    if experiment.resources.gpus_per_node == 0:
        return None
    training, parameters = experiment.training, parameter_count(experiment.model)
    here = context.cards_at_once if context.runs_here else None
    card_bytes = memory_of_a_card(context.profile, context.environ, here=here)
    capability = weakest_capability(context)
    return Facts(
        parameters=parameters,
        residues_per_gpu=training.micro_batch_residues,
        needed_bytes=gpu_bytes(experiment, training.micro_batch_residues, capability=capability),
        card_bytes=card_bytes,
        fitting=largest_fit(experiment, int(FITS * card_bytes), capability=capability)
        if card_bytes
        else None,
        recomputes=training.activation_checkpointing,
        shard=_SPREADS_MORE.get(training.shard) if experiment.resources.ranks > 1 else None,
        processes=experiment.resources.ranks_per_node,
        gpus=experiment.resources.gpus_per_node,
        is_guess=assumes_replay(experiment, capability),
    )


def judge(facts: Facts) -> Verdict:
    if facts.processes > facts.gpus:
        # NCCL refuses that, too, with an error for which one node after the other would be left as faulty.
        return fail(
            f"{facts.processes} processes for {counted(facts.gpus, 'GPU')} of a node: two cannot train on one card",
            f"leave out resources.processes_per_node, or ask for resources.gpus_per_node: {facts.processes}",
            Fault.JOB,
        )
    saw = (
        f"{format_count(facts.parameters)} parameters and {facts.residues_per_gpu:,} residues "
        f"take about {format_bytes(facts.needed_bytes)}"
    )
    if facts.is_guess:
        saw += " (with CUDA graphs, as on cards from 8.0 on: gpu: {type: …} in the profile names the card)"
    if facts.card_bytes is None:
        return unknown(f"{saw}; the card's memory is unknown", "write gpu: {memory: 32GiB} in the profile")
    saw += f" of {format_bytes(facts.card_bytes)}"
    if facts.needed_bytes <= FITS * facts.card_bytes:
        return ok(saw)
    advice = [f"training.residues_per_gpu: {facts.fitting}"] if facts.fitting else []
    advice += [] if facts.recomputes else ["training.activation_checkpointing: true"]
    advice += [f"training.shard: {facts.shard}"] if facts.shard else []
    hint = " or ".join(advice) or "a smaller model, or a card with more memory"
    return fail(saw, hint) if facts.needed_bytes > _SURE * facts.card_bytes else warn(f"{saw}: tight", hint)


_FITTING = Facts(
    parameters=23_930_880,
    residues_per_gpu=32_768,
    needed_bytes=7 << 30,
    card_bytes=16 << 30,
    fitting=32_768,
    recomputes=False,
)

CHECK = Check(
    tasks=(Experiment,),
    sides=(Side.LOGIN, Side.NODE),
    fault=Fault.CARD,
    catches="a batch or model that the card's 16 or 32 GiB cannot hold; more processes than cards",
    takes="< 0.1 s",
    passing=_FITTING,
    failing=replace(_FITTING, residues_per_gpu=131_072, needed_bytes=25 << 30, fitting=65_536),
)
