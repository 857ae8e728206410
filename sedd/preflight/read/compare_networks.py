"""Compute the spec's network in two ways and compare, for several node checks."""

import gc
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sedd.preflight.context import CheckContext
from sedd.preflight.read.device import training_attention
from sedd.preflight.read.stand_in import stand_in

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

    from sedd.model.transformer import Transformer

TOLERANCE = {"float16": 3e-2, "bfloat16": 1e-1, "float32": 2e-3}
"""Largest error in units of the answer's largest entry: either way sums in another order, and rounds elsewhere."""
_LENGTHS = (1.0, 0.03, 0.4, 0.11)  # of the longest allowed; uneven: borders that are off by one must show


@dataclass(frozen=True, slots=True, kw_only=True)
class Errors:
    """Largest error of output and of gradient, in units of the largest entry expected."""

    dtype: str
    """Of the activations: what may be expected."""
    output: float
    gradient: float

    def __str__(self) -> str:
        allowed = "" if self.are_small else f" (allowed: {TOLERANCE[self.dtype]:g})"
        return f"({self.dtype}) the output is off by {self.output:.1g}, the gradient by {self.gradient:.1g}{allowed}"

    @property
    def are_small(self) -> bool:
        return all(error <= TOLERANCE[self.dtype] for error in (self.output, self.gradient))  # NaN is not


def busy_network(context: CheckContext, device: "torch.device") -> "Transformer":
    """The spec's network with weights that all matter: many start at zero, and would hide what is wrong."""
    import torch

    from sedd.model.transformer import Transformer

    torch.manual_seed(0)
    spec = stand_in(context.training_run)
    without_dropout = spec.model.model_copy(update={"dropout": 0.0})
    model = Transformer(
        without_dropout,
        attention=training_attention(context),
        activation_checkpointing=spec.training.activation_checkpointing,
    )
    for weight in model.parameters():
        if not weight.any():
            torch.nn.init.normal_(weight, std=0.05)
    return model.to(device)


def one_step(
    context: CheckContext, device: "torch.device", dtype: "torch.dtype"
) -> "Callable[[Callable[..., torch.Tensor], Transformer], tuple[torch.Tensor, torch.Tensor]]":
    """A function that gives output and gradient of a network (compiled or not) on one packed batch."""
    import torch

    borders = _borders(
        context.training_run.training.micro_batch_residues, context.training_run.data.max_length
    )
    cu_seqlens = torch.tensor(borders, dtype=torch.int32, device=device)
    tokens = torch.randint(4, 24, (borders[-1],), device=device)
    # Neighbours at opposite ends of the schedule.
    sigma_bar = torch.tensor([0.05 if n % 2 else 6.0 for n in range(len(borders) - 1)], device=device)
    max_length = context.training_run.data.max_length

    def compute(
        forward: "Callable[..., torch.Tensor]", model: "Transformer"
    ) -> tuple["torch.Tensor", "torch.Tensor"]:
        with torch.autocast(device.type, dtype=dtype, enabled=dtype is not torch.float32):
            output = forward(tokens, cu_seqlens, sigma_bar, max_length=max_length).float()
        loss = torch.nn.functional.cross_entropy(output, tokens)
        torch.autograd.backward(loss * 1024.0)  # away from fp16's smallest numbers
        gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        model.zero_grad(set_to_none=True)
        return output.detach(), gradient

    return compute


def _borders(residues: int, longest: int) -> list[int]:
    """Ends of uneven sequences that fill the batch, from 0 on."""
    borders = [0]
    while borders[-1] < residues:
        length = max(1, int(longest * _LENGTHS[len(borders) % len(_LENGTHS)]))
        borders.append(min(residues, borders[-1] + length))
    return borders


def errors(
    seen: tuple["torch.Tensor", "torch.Tensor"],
    expected: tuple["torch.Tensor", "torch.Tensor"],
    dtype: "torch.dtype",
) -> Errors:
    """How far two results of `one_step` are apart."""
    output, gradient = (
        float((here.float() - there.float()).abs().max() / there.float().abs().max())
        for here, there in zip(seen, expected, strict=True)
    )
    return Errors(dtype=str(dtype).removeprefix("torch."), output=output, gradient=gradient)


def release_gpu_memory(device: "torch.device") -> None:
    """Give a card's memory back, and forget its peak: training's own is told to the user."""
    import torch

    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
