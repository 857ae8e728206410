"""Number format by the card's capability: fp16 with loss scaling on a V100, never bf16 there."""

import contextlib
from dataclasses import dataclass

import torch

from sedd.errors import SpecError


@dataclass(frozen=True, slots=True)
class Precision:
    """What matrix products are computed in; weights, norms, softmax and loss stay fp32."""

    name: str
    compute: torch.dtype
    scales_loss: bool

    def autocast(self, device: torch.device) -> contextlib.AbstractContextManager[object]:
        """The autocast context of a forward pass; nothing in fp32."""
        if self.compute is torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(device.type, dtype=self.compute)


PRECISIONS = {
    "fp32": Precision("fp32", torch.float32, scales_loss=False),
    "fp16": Precision("fp16", torch.float16, scales_loss=True),
    "bf16": Precision("bf16", torch.bfloat16, scales_loss=False),
}


def choose_precision(asked: str, capability: tuple[int, int] | None) -> Precision:
    """The precision to train in; `capability` is the GPU's compute capability, None on a CPU.

    `torch.cuda.is_bf16_supported()` is not asked: it may say True on a V100, where bf16 is emulated.

    Raises:
        SpecError: bf16 asked of a card below compute capability 8.0, or fp16 of a CPU.
    """
    if asked == "auto":
        asked = "fp32" if capability is None else "bf16" if capability >= (8, 0) else "fp16"
    if asked == "bf16" and capability is not None and capability < (8, 0):
        raise SpecError(
            f"training.precision is bf16, but the GPU has compute capability {capability[0]}.{capability[1]}",
            hint="bf16 needs 8.0 (A100); use auto or fp16",
        )
    if asked == "fp16" and capability is None:
        raise SpecError("training.precision is fp16, but there is no GPU", hint="use auto or fp32")
    return PRECISIONS[asked]


def capability_of(device: torch.device) -> tuple[int, int] | None:
    """Compute capability of a CUDA device, None of a CPU."""
    return torch.cuda.get_device_capability(device) if device.type == "cuda" else None
