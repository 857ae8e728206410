"""Build the network for training from a spec: over ranks, in the card's precision, with its loss."""

import contextlib
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from sedd.diffusion.curriculum import CURRICULA
from sedd.diffusion.draws import CounterNoise, counter_noise, sequence_noise
from sedd.diffusion.graph import GRAPHS
from sedd.diffusion.noise import NOISES
from sedd.diffusion.objective import Objective
from sedd.diffusion.times import diffusion_times, lattice
from sedd.errors import SpecError
from sedd.finetune.start import prepare
from sedd.model.attention import fastest, is_legal
from sedd.model.block_ops import fastest_kernels, why_not_fused
from sedd.model.transformer import Transformer
from sedd.spec.conditions import ConditionsSpec
from sedd.spec.diffusion import DiffusionSpec
from sedd.spec.experiment import Experiment
from sedd.training.distributed import Ranks
from sedd.training.graphs import uses_graphs
from sedd.training.loader import DeviceBatch
from sedd.training.precision import Precision, capability_of
from sedd.training.seeds import INIT, counter_seed
from sedd.training.sharding.fsdp import is_sharded, shard_network

_SEQUENCES = 32
_HIDDEN = 1
"""Keeps what hides labels apart from what corrupts residues, whose number is 0."""


class LossInputs(NamedTuple):
    """What a micro-batch's loss is a function of, apart from the weights."""

    tokens: Tensor
    """int64 [residues]"""
    cu_seqlens: Tensor
    """int32 [sequences + 1]"""
    times: Tensor
    """[sequences]: diffusion times."""
    noise_keys: Tensor
    """int64 [residues]: of the noise that corrupts them."""
    labels: Tensor = torch.empty(0, 0)
    """[sequences, fields]: what the network is told of them, NaN where it is told nothing; without conditions empty."""


@dataclass(frozen=True, slots=True)
class Network:
    """A transformer, the way its forward pass is run, and the objective of its output."""

    model: Transformer
    forward: nn.Module
    """The model, perhaps compiled, perhaps wrapped for several ranks."""
    objective: Objective
    precision: Precision
    is_compiled: bool
    is_replayed: bool = False
    """Whether gradients are computed by CUDA graphs; several ranks then exchange them afterwards."""
    conditions: ConditionsSpec | None = None
    """The labels that it is told, and how often they are hidden."""

    def loss(
        self, batch: DeviceBatch, *, step: int, part: tuple[int, int], time_offset: float, noise_seed: int
    ) -> Tensor:
        """Sum of the training loss over the residues of a micro-batch, fp64; gradients reach the model.

        `part` (m, M): it is the m-th, from 0, of the M over which times are spread together, from `time_offset` on.
        """
        inputs = self.loss_inputs(batch, part=part, time_offset=time_offset, noise_seed=noise_seed)
        return self.loss_of(inputs, max_length=batch.max_length, step=step)

    def loss_inputs(
        self, batch: DeviceBatch, *, part: tuple[int, int], time_offset: float, noise_seed: int
    ) -> "LossInputs":
        """What the loss is a function of, all on the device; arguments as for `loss`."""
        batch = rounded_up(batch) if self.model.kernels == "fused" else batch
        noise = _noise(batch, noise_seed)
        labels = self._labels(batch, noise_seed)
        return LossInputs(
            batch.tokens, batch.cu_seqlens, _times(batch, part, time_offset), noise.keys, labels
        )

    def loss_of(self, inputs: "LossInputs", *, max_length: int, step: int) -> Tensor:
        """The loss as a function of tensors: it waits for no GPU, and neither host nor random states enter."""
        losses = self.objective.per_residue(
            lambda x, sigma_bar: self._raw(
                self.forward, inputs.cu_seqlens, max_length, x, sigma_bar, inputs.labels
            ),
            inputs.tokens,
            inputs.cu_seqlens,
            inputs.times,
            generator=CounterNoise(inputs.noise_keys),
            step=step,
        )
        return losses.sum(dtype=torch.float64)

    def bound(
        self, batch: DeviceBatch, *, part: tuple[int, int], time_offset: float, noise_seed: int
    ) -> Tensor:
        """Terms of the likelihood bound, [residues]; on this rank alone. Else as `loss`."""
        return self.objective.bound(
            lambda x, sigma_bar: self._raw(
                self.model, batch.cu_seqlens, batch.max_length, x, sigma_bar, batch.labels
            ),
            batch.tokens,
            batch.cu_seqlens,
            _times(batch, part, time_offset),
            generator=_noise(batch, noise_seed),
        )

    def means(self) -> str:
        """What computes it, in words: what a spec's `auto` has become."""
        kernels = "compiled" if self.is_compiled else f"{self.model.kernels} kernels"
        return f"{self.model.attention} attention, {kernels}"

    @property
    def is_averaged(self) -> bool:
        """Whether DDP or FSDP averages gradients over the ranks during the backward pass."""
        return isinstance(self.forward, DistributedDataParallel) or self.is_sharded

    @property
    def is_sharded(self) -> bool:
        """Whether each pass, validation's too, takes all ranks, since none has all weights."""
        return is_sharded(self.model)

    @property
    def regroups(self) -> bool:
        """Whether DDP will group what ranks exchange anew after its first backward pass."""
        return isinstance(self.forward, DistributedDataParallel)

    def no_sync(self) -> contextlib.AbstractContextManager[Any]:
        """While gradients are accumulated, ranks need not exchange them."""
        if isinstance(self.forward, DistributedDataParallel):
            return self.forward.no_sync()
        return contextlib.nullcontext()

    def _labels(self, batch: DeviceBatch, seed: int) -> Tensor:
        """The batch's labels less those that are hidden: an entry is a function of (seed, its sequence, its field)."""
        conditions = self.conditions
        if conditions is None or batch.labels is None:
            fields = len(conditions.fields) if conditions is not None else 0
            return torch.full((batch.sequences, fields), torch.nan, device=batch.tokens.device)
        samples = torch.arange(batch.sequences, device=batch.tokens.device)
        return hide_labels(batch.labels, conditions, sequence_noise(seed, _HIDDEN, samples))

    def _raw(
        self,
        forward: nn.Module,
        cu_seqlens: Tensor,
        max_length: int,
        x: Tensor,
        sigma_bar: Tensor,
        labels: Tensor | None,
    ) -> Tensor:
        told = {"labels": labels} if self.conditions is not None else {}
        with self.precision.autocast(x.device):
            raw = forward(x, cu_seqlens, sigma_bar, max_length=max_length, **told)
        return raw.float()  # type: ignore[no-any-return] # nn.Module's call is untyped


def build_network(
    experiment: Experiment, ranks: Ranks, precision: Precision, device: torch.device
) -> Network:
    """The network of an experiment, initialised from its seed alike on every rank."""
    training = experiment.training
    is_cut = training.shard == "full" and ranks.size > 1
    # What is cut over the ranks reaches the device a block at a time.
    model = build_model(experiment, torch.device("cpu") if is_cut else device)
    model.attention = choose_attention(training.attention, device, precision.compute)
    model.kernels = choose_kernels(training.kernels, device, precision.compute, experiment.model.hidden)
    forward: nn.Module = model
    is_compiled = not is_cut and compiles(training.compile, capability_of(device), model.kernels)
    if is_compiled:
        model.kernels = "torch"
        forward = torch.compile(model)  # type: ignore[assignment] # it is a Module that calls the compiled code
    if is_cut:
        shard_network(model, ranks, precision, device)
    is_replayed = uses_graphs(experiment, model, device, is_compiled=is_compiled, is_cut=is_cut)
    if ranks.size > 1 and training.reduction == "all_reduce" and not (is_cut or is_replayed):
        forward = DistributedDataParallel(
            forward,
            device_ids=[device] if device.type == "cuda" else None,
            gradient_as_bucket_view=True,
        )
    return Network(
        model,
        forward,
        build_objective(experiment.diffusion),
        precision,
        is_compiled,
        is_replayed,
        experiment.model.conditions,
    )


def choose_attention(asked: str, device: torch.device, dtype: torch.dtype) -> str:
    """Name of the attention implementation to train with. Raises: SpecError where the device cannot run it."""
    chosen = fastest(device, dtype) if asked == "auto" else asked
    if not is_legal(chosen, device, dtype):
        name = str(dtype).removeprefix("torch.")
        raise SpecError(
            f"training.attention is {chosen}, which does not run in {name} on {device}",
            hint=f"auto takes {fastest(device, dtype)} here",
        )
    return chosen


def choose_kernels(asked: str, device: torch.device, dtype: torch.dtype, hidden: int) -> str:
    """What lies between the matrix products: `fused` or `torch`. Raises: SpecError where fused cannot be had."""
    chosen = fastest_kernels(device, dtype, hidden) if asked == "auto" else asked
    if chosen == "fused" and (reason := why_not_fused(device, dtype, hidden)):
        raise SpecError(f"training.kernels is fused: {reason}", hint="auto takes torch here")
    return chosen


def compiles(asked: bool | str, capability: tuple[int, int] | None, kernels: str) -> bool:
    """Whether the network is compiled. `auto` does where Triton supports the card and no fused kernels can be had."""
    if asked != "auto":
        return bool(asked)
    return kernels == "torch" and capability is not None and capability >= (8, 0)


def build_model(experiment: Experiment, device: torch.device) -> Transformer:
    """The transformer with its initial weights, and ready to be fine-tuned if that is asked for."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(counter_seed(experiment.seed, INIT))
        model = Transformer(experiment.model)
        prepare(model, experiment)
    model.activation_checkpointing = experiment.training.activation_checkpointing
    return model.to(device)


def build_objective(spec: DiffusionSpec) -> Objective:
    """The objective that a spec describes: its `kind` names the class, its other fields are the arguments."""
    noise = NOISES[spec.noise.kind](**spec.noise.model_dump(exclude={"kind"}))
    curriculum = None
    if spec.curriculum is not None:
        curriculum = CURRICULA[spec.curriculum.kind](**spec.curriculum.model_dump(exclude={"kind"}))
    return Objective(
        GRAPHS[spec.graph](), noise, spec.parameterization, curriculum, spec.estimator, spec.time_power
    )


def _times(batch: DeviceBatch, part: tuple[int, int], offset: float) -> Tensor:
    """Diffusion times of the batch's sequences: one golden-ratio sequence over all parts, in order of length.

    A residue's loss depends on its sequence's time first of all, and long sequences hold the most residues. So every
    few sequences of like length cover the interval evenly, instead of chance giving long ones small times.
    """
    place = batch.cu_seqlens.diff().argsort(descending=True, stable=True).argsort()
    number, parts = part
    return diffusion_times(lattice(place * parts + number, offset=offset))


def rounded_up(batch: DeviceBatch) -> DeviceBatch:
    """The batch with empty sequences behind its own, up to a multiple of 32: fewer shapes, and so fewer CUDA graphs."""
    more = -batch.sequences % _SEQUENCES
    if not more:
        return batch
    labels = batch.labels
    if labels is not None:
        labels = torch.cat((labels, labels.new_full((more, labels.shape[1]), torch.nan)))
    borders = torch.cat((batch.cu_seqlens, batch.cu_seqlens[-1:].expand(more)))
    return replace(batch, cu_seqlens=borders, labels=labels)


def hide_labels(labels: Tensor, spec: ConditionsSpec, noise: CounterNoise) -> Tensor:
    """Labels [sequences, fields] less those that are hidden in training: all of a sequence, or each on its own."""
    u = noise.uniform(1 + labels.shape[1], torch.float32)
    # Compared with numbers, not with a tensor of them: to bring one to a GPU would wait for it.
    each = [u[:, place] < field.drop for place, field in enumerate(spec.fields.values(), start=1)]
    hidden = (u[:, :1] < spec.drop_all) | torch.stack(each, 1)
    return labels.masked_fill(hidden, torch.nan)


def _noise(batch: DeviceBatch, seed: int) -> CounterNoise:
    samples = torch.arange(batch.sequences, device=batch.tokens.device)
    return counter_noise(seed, 0, samples, batch.cu_seqlens, batch.tokens.numel())
