"""One forward and backward pass and optimiser step of the spec's own network at its own batch, on the GPU."""

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sedd.model.size import parameter_count
from sedd.preflight.check import Check, CheckContext, Fault, Side, Verdict, fail, ok, warn
from sedd.preflight.read.compare_networks import release_gpu_memory
from sedd.preflight.read.device import (
    capability_of,
    training_attention,
    training_device,
    training_dtype,
    training_kernels,
)
from sedd.preflight.read.stand_in import missing_bytes, stand_in
from sedd.spec.experiment import Experiment
from sedd.units import format_bytes

if TYPE_CHECKING:
    import torch

_BYTES_OF_EMA = 4
_TIGHT = 0.95
_LOSS_SCALE = 1024.0
_LESS = "a smaller training.residues_per_gpu, or training.activation_checkpointing: true"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    residues: int
    card_bytes: int
    peak_bytes: int | None
    """Allocated at most, EMA weights, and what a stand-in lacks; None: it ran out of memory."""
    gradient_norm: float
    seconds: float
    """Of the second step: the first one loads kernels."""


def gather(context: CheckContext) -> Facts | None:
    if context.training_run.resources.gpus_per_node == 0:
        return None
    import torch

    device = training_device(context)
    if device.type != "cuda":  # the check `torch_device` says so
        return None
    card_bytes = torch.cuda.get_device_properties(device).total_memory
    residues = context.training_run.training.micro_batch_residues
    try:
        # The random numbers that training draws must not depend on whether preflight ran.
        with torch.random.fork_rng([device]):
            norm, seconds = _two_steps(context, device)
        ema_bytes = _BYTES_OF_EMA * parameter_count(stand_in(context.training_run).model)
        missing = missing_bytes(context.training_run, capability=capability_of(device))
        peak_bytes = torch.cuda.max_memory_allocated(device) + ema_bytes + missing
    except torch.cuda.OutOfMemoryError:
        norm, seconds, peak_bytes = math.nan, math.nan, None
    release_gpu_memory(device)
    return Facts(
        residues=residues, card_bytes=card_bytes, peak_bytes=peak_bytes, gradient_norm=norm, seconds=seconds
    )


def judge(facts: Facts) -> Verdict:
    card = format_bytes(facts.card_bytes)
    if facts.peak_bytes is None:
        return fail(f"{facts.residues:,} residues do not fit into {card}", _LESS)
    saw = (
        f"a step of {facts.residues:,} residues took {facts.seconds:.2f} s "
        f"and {format_bytes(facts.peak_bytes)} of {card}"
    )
    if not math.isfinite(facts.gradient_norm):
        return fail(
            f"{saw}, with a gradient that is not finite",
            "the card or this torch computes wrongly: another node",
            Fault.NODE,
        )
    if facts.peak_bytes > _TIGHT * facts.card_bytes:
        return warn(f"{saw}: tight", _LESS)
    return ok(saw)


def _two_steps(context: CheckContext, device: "torch.device") -> tuple[float, float]:
    """Gradient norm and seconds of the second step on random proteins as long as they may be."""
    import torch

    from sedd.model.adamw import AdamW
    from sedd.model.transformer import Transformer

    spec, dtype = stand_in(context.training_run), training_dtype(context, device)
    torch.manual_seed(0)
    model = Transformer(
        spec.model,
        attention=training_attention(context),
        kernels=training_kernels(context, device),
        activation_checkpointing=spec.training.activation_checkpointing,
    ).to(device)
    optimizer = AdamW(model.parameters(), lr=1e-6)
    residues, length = spec.training.micro_batch_residues, spec.data.max_length
    borders = torch.tensor([*range(0, residues, length), residues], dtype=torch.int32, device=device)
    tokens = torch.randint(4, 24, (residues,), device=device)
    sigma_bar = torch.linspace(0.1, 5.0, borders.numel() - 1, device=device)
    for _ in range(2):
        started = time.perf_counter()
        with torch.autocast("cuda", dtype=dtype, enabled=dtype is not torch.float32):
            scores = model(tokens, borders, sigma_bar, max_length=length)
        loss = torch.nn.functional.cross_entropy(scores.float(), tokens)
        torch.autograd.backward(loss * _LOSS_SCALE)
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), _LOSS_SCALE)
        optimizer.step()
        optimizer.zero_grad()
        gradient_norm = float(norm)  # waits for the GPU
        seconds = time.perf_counter() - started
    return gradient_norm, seconds


CHECK = Check(
    tasks=(Experiment,),
    sides=(Side.NODE,),
    fault=Fault.CARD,
    catches="a batch that the card does not hold; a network that it cannot compute",
    takes="2 s on a GPU",
    passing=Facts(residues=32_768, card_bytes=32 << 30, peak_bytes=8 << 30, gradient_norm=3.1, seconds=0.4),
    failing=Facts(
        residues=131_072, card_bytes=16 << 30, peak_bytes=None, gradient_norm=math.nan, seconds=math.nan
    ),
)
