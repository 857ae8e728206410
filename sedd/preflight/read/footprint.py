"""Estimate the memory and disk of an experiment by closed formulas over its spec."""

from sedd.finetune.fitting import count, trained_shapes
from sedd.model.size import block_parameter_count, matrix_parameter_count, parameter_count
from sedd.model.tiled_sizes import has_kernels, kept_score_bytes
from sedd.preflight.read.device import BF16_FROM
from sedd.spec.experiment import Experiment

# fp32 weights, and the EMA of those that are trained; one moment of an optimiser: AdamW keeps two, Muon one of each
# matrix within a block.
_WEIGHT_BYTES, _EMA_BYTES, _MOMENT_BYTES = 4, 4, 4
# The gradient of what is trained, and autocast's half-precision copy of the weights.
_GRADIENT_BYTES, _COPY_BYTES = 4, 2
# Of a block that FSDP gathers (shard: full), bytes a parameter in half precision and fp32: this block's weights and the
# next one's, each with the buffer that they arrived in; its gradient; what two blocks are adding up, in fp32.
_GATHERED_BYTES = (4 * 2 + 2 + 2 * 4, 4 * 4 + 4 + 2 * 4)
# Bytes kept for the backward pass a residue and hidden unit, fitted to measured peaks (README.md): of a block in half
# precision or fp32, by the kernels between its matrix products; of a block's input; of embedding and output.
_BLOCK = {"fused": (39.5, 70.5), "torch": (45.5, 81.0), "compiled": (52.0, 81.0)}
_BLOCK_INPUT, _ENDS, _ENDS_RECOMPUTED = (
    (5.5, 8.0),
    {"fused": (17, 33), "torch": (31, 35), "compiled": (31, 35)},
    12,
)
REPLAYS_FROM = (8, 0)
"""Compute capability from which `training.cuda_graphs: auto` replays (`sedd/model/cuda_graph.py`)."""
_WITHOUT_REPLAY = (7, 0)
FITS = 0.92
"""Share of the card that an estimate may fill: it is good to about a tenth."""
# CUDA context, cuBLAS workspace, allocator's rounding.
_CONTEXT_BYTES = 3 << 28
# Main memory, measured (README.md): Python, torch, CUDA and batches of a process; libraries that all share.
_PROCESS_BYTES, _SHARED_BYTES = 5 << 28, 5 << 27
# Without CUDA.
_CPU_PROCESS_BYTES = 3 << 27


def checkpoint_bytes(experiment: Experiment) -> int:
    """One checkpoint on disk."""
    weights = parameter_count(experiment.model) * _WEIGHT_BYTES
    return weights + _trained_count(experiment) * _EMA_BYTES + _moments_bytes(experiment)


def kept_checkpoints(experiment: Experiment) -> int:
    """Checkpoints on disk at the end of the run, and the one that is being written aside."""
    kept = experiment.training.checkpoint
    for_ever = experiment.training.steps // kept.keep_every_steps if kept.keep_every_steps else 0
    return kept.keep + for_ever + 1


def replays(experiment: Experiment, capability: tuple[int, int] | None) -> bool:
    """Whether gradients are computed by CUDA graphs, as `sedd/training/graphs.py` decides where fused kernels work.

    Of `auto` on a card that nobody names it is assumed: with graphs a step takes more memory.
    """
    asked = experiment.training.cuda_graphs
    if asked is not True and (asked is False or experiment.graph_obstacle):
        return False
    return asked is True or capability is None or capability >= REPLAYS_FROM


def assumes_replay(experiment: Experiment, capability: tuple[int, int] | None) -> bool:
    """Whether it takes a guess: the card is not known, and more would fit where it does not replay."""
    if capability is not None:
        return False
    kinds = (state_bytes(experiment, capability=each) for each in (None, _WITHOUT_REPLAY))
    return len(set(kinds)) > 1


def state_bytes(experiment: Experiment, *, capability: tuple[int, int] | None) -> int:
    """GPU memory that holds weights, gradients, moments and EMA: needed whatever the batch."""
    shard, ranks = experiment.training.shard, experiment.resources.ranks
    weights, trained = parameter_count(experiment.model), _trained_count(experiment)
    averages_and_moments = trained * _EMA_BYTES + _moments_bytes(experiment)
    if shard == "full" and ranks > 1:
        own = weights * _WEIGHT_BYTES + trained * _GRADIENT_BYTES + averages_and_moments
        format_ = int(experiment.training.precision == "fp32")
        gathered = block_parameter_count(experiment.model) * _GATHERED_BYTES[format_]
        return own // ranks + gathered + _CONTEXT_BYTES
    if shard == "optimizer":
        averages_and_moments //= ranks
    gradient = _GRADIENT_BYTES * (2 if replays(experiment, capability) and ranks > 1 else 1)
    sums = trained * (gradient + _sums_bytes(experiment))
    return weights * (_WEIGHT_BYTES + _COPY_BYTES) + sums + averages_and_moments + _CONTEXT_BYTES


def gpu_bytes(experiment: Experiment, residues: int, *, capability: tuple[int, int] | None) -> int:
    """GPU memory at the moment at which a step over micro-batches of this many residues takes most.

    `capability` is that of the card, as far as it is known (`replays`).
    """
    state = state_bytes(experiment, capability=capability)
    kept = activation_bytes(experiment, residues) + attention_bytes(
        experiment, residues, capability=capability
    )
    if not _gradients_come_last(experiment, residues, capability):
        return state + kept
    gradients = _trained_count(experiment) * _GRADIENT_BYTES
    return state - gradients + max(gradients, kept)


def attention_bytes(experiment: Experiment, residues: int, *, capability: tuple[int, int] | None) -> int:
    """GPU memory that attention takes for a while in the backward pass: `tiled` does for heads of 128.

    Of `attention: auto` on a card that nobody names it is assumed to be `tiled`, as it is on a V100.
    """
    model, training = experiment.model, experiment.training
    head_dim, is_auto = model.hidden // model.heads, training.attention == "auto"
    is_left_to_flash = is_auto and capability is not None and capability >= BF16_FROM
    is_tiled = (is_auto or training.attention == "tiled") and not is_left_to_flash
    if not is_tiled or training.precision not in ("auto", "fp16") or not has_kernels(head_dim, capability):
        return 0
    return kept_score_bytes(residues, experiment.data.max_length, model.heads, head_dim)


def _gradients_come_last(experiment: Experiment, residues: int, capability: tuple[int, int] | None) -> bool:
    """Whether gradients come only as activations go: no micro-batch, DDP or CUDA graph keeps any from earlier."""
    training = experiment.training
    is_alone = experiment.resources.ranks == 1 and training.reduction == "all_reduce"
    has_graph = replays(experiment, capability)
    return is_alone and not has_graph and residues == training.residues_per_step


def _sums_bytes(experiment: Experiment) -> int:
    """Bytes a trained parameter of the gradient sums that an ordered reduction keeps besides the gradient itself."""
    training = experiment.training
    if training.reduction != "ordered" or training.residues_per_gpu == "auto":
        return 0
    leaves = training.micro_batches_per_step
    pairs = (leaves & -leaves) // experiment.resources.ranks
    return 4 * max(0, pairs.bit_length() - 1)


def main_memory_bytes(experiment: Experiment) -> int:
    """Main memory of the node whose first process saves; of a training on CPUs at the least."""
    resources, copy = experiment.resources, checkpoint_bytes(experiment)
    if resources.gpus_per_node == 0:
        return resources.ranks_per_node * _process_bytes_on_cpu(experiment) + copy
    if experiment.training.shard != "none" and resources.ranks > 1:
        copy = copy * resources.ranks_per_node // resources.ranks  # of each process its part
    # Before that, each process makes the network in main memory.
    made = parameter_count(experiment.model) * _WEIGHT_BYTES * resources.ranks_per_node
    return resources.ranks_per_node * _PROCESS_BYTES + _SHARED_BYTES + max(copy, made)


def _process_bytes_on_cpu(experiment: Experiment) -> int:
    """What a GPU would hold lies in main memory, too; attention takes more there than is reckoned here."""
    state = state_bytes(experiment, capability=_WITHOUT_REPLAY) - _CONTEXT_BYTES
    as_there = experiment.training.model_copy(update={"precision": "fp32", "kernels": "torch"})
    kept = activation_bytes(
        experiment.model_copy(update={"training": as_there}), experiment.training.micro_batch_residues
    )
    return _CPU_PROCESS_BYTES + state + kept


def _trained_count(experiment: Experiment) -> int:
    training = experiment.training
    partly = training.freeze or training.lora
    return count(trained_shapes(experiment)) if partly else parameter_count(experiment.model)


def _moments_bytes(experiment: Experiment) -> int:
    two_each = 2 * _trained_count(experiment)
    is_muon = experiment.training.optimizer == "muon" and not experiment.training.freeze
    spared = matrix_parameter_count(experiment.model) if is_muon else 0
    return _MOMENT_BYTES * (two_each - spared)


def activation_bytes(experiment: Experiment, residues: int) -> int:
    """GPU memory that a forward pass over this many residues keeps for the backward pass, to some 10 %.

    With activation checkpointing: every block's input, and one block in full.
    """
    model, training = experiment.model, experiment.training
    kernels = "compiled" if training.compile is True else "torch" if training.kernels == "torch" else "fused"
    format_ = int(training.precision == "fp32")
    block, ends = _BLOCK[kernels][format_], _ENDS[kernels][format_]
    if training.activation_checkpointing:
        kept = _BLOCK_INPUT[format_] * model.blocks + block + _ENDS_RECOMPUTED
    else:
        kept = block * model.blocks + ends
    return int(residues * model.hidden * kept)


def largest_fit(
    experiment: Experiment, memory_bytes: int, *, capability: tuple[int, int] | None
) -> int | None:
    """The largest `residues_per_gpu` that divides the global batch as the spec wants, and fits; None if none does."""
    training, ranks = experiment.training, experiment.resources.ranks
    most = training.residues_per_step if training.residues_per_gpu == "auto" else training.residues_per_gpu
    for share in range(ranks, training.residues_per_step + 1, ranks):
        residues, left = divmod(training.residues_per_step, share)
        if residues < experiment.data.max_length:
            return None
        if (
            not left
            and residues <= most
            and gpu_bytes(experiment, residues, capability=capability) <= memory_bytes
        ):
            return residues
    return None
