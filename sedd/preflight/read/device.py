"""The device that this process will train on and its number format; torch is imported in functions only."""

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sedd.cluster.profile import Profile
from sedd.preflight.context import CheckContext, Side
from sedd.preflight.read.cards import query_driver, visible
from sedd.preflight.read.torch_wheel import capability_of as wheel_capability_of
from sedd.spec.experiment import Experiment
from sedd.spec.inference import TrainedTask

if TYPE_CHECKING:
    import torch

BF16_FROM = (8, 0)
TRITON_FROM = (8, 0)


def weakest_capability(context: CheckContext) -> tuple[int, int] | None:
    """Compute capability of the weakest card that the job will see, without torch; None where it is not known."""
    here = context.cards_at_once if context.runs_here else None
    return capability_of_a_card(context.profile, context.environ, here=here)


def capability_of_a_card(
    profile: Profile, environ: Mapping[str, str], *, here: int | None
) -> tuple[int, int] | None:
    """Capability of the weakest card of a job: of the first `here` of this machine; None: as the profile names it."""
    if here is not None and (driver := query_driver()):
        cards = visible(driver, environ)[:here]
        return min((card.capability for card in cards if card.capability), default=None)
    return wheel_capability_of(profile.gpu.type) if profile.gpu.type else None


def precision_name(asked: str, capability: tuple[int, int] | None) -> str:
    """fp32, fp16 or bf16 for what the spec asks; `capability` is None on a CPU."""
    if asked != "auto":
        return asked
    if capability is None:
        return "fp32"
    return "bf16" if capability >= BF16_FROM else "fp16"


def training_device(context: CheckContext) -> "torch.device":
    """The GPU of this rank, else the CPU. A task to which SLURM bound a single GPU sees that one as 0."""
    import torch

    if context.experiment.resources.gpus_per_node == 0 or not torch.cuda.is_available():
        return torch.device("cpu")
    count = torch.cuda.device_count()
    return torch.device("cuda", context.local_rank if context.local_rank < count else 0)


def use_training_device(context: CheckContext) -> None:
    """On a node: let this thread's CUDA work go to the rank's own GPU, where nothing names one.

    CUDA keeps the current GPU by thread and begins with the first, on which every rank of a node would take memory.
    """
    is_on_gpu = context.side is Side.NODE and context.experiment.resources.gpus_per_node > 0
    if not is_on_gpu or not isinstance(context.experiment, (Experiment, TrainedTask)):
        return
    with contextlib.suppress(Exception):  # the checks of torch and of the cards say what is wrong
        import torch

        if (device := training_device(context)).type == "cuda":
            torch.cuda.set_device(device)


def capability_of(device: "torch.device") -> tuple[int, int] | None:
    """Compute capability of a CUDA device, None of a CPU."""
    import torch

    return torch.cuda.get_device_capability(device) if device.type == "cuda" else None


def training_attention(context: CheckContext) -> str | None:
    """The attention implementation that the spec names; None: the fastest legal one."""
    asked = context.training_run.training.attention
    return None if asked == "auto" else asked


def training_dtype(context: CheckContext, device: "torch.device") -> "torch.dtype":
    """What matrix products will be computed in."""
    import torch

    name = precision_name(context.training_run.training.precision, capability_of(device))
    return {"fp32": torch.float32, "fp16": torch.float16, "bf16": torch.bfloat16}[name]


def is_compiled(context: CheckContext, device: "torch.device") -> bool:
    """Whether the network goes through torch.compile."""
    training = context.training_run.training
    if training.compile != "auto":
        return training.compile
    capability = capability_of(device)
    if training.kernels == "fused" or capability is None or capability < TRITON_FROM:
        return False
    from sedd.model.block_ops import why_not_fused

    has_none = (
        why_not_fused(device, training_dtype(context, device), context.training_run.model.hidden) is not None
    )
    return training.kernels == "torch" or has_none


def training_kernels(context: CheckContext, device: "torch.device") -> str | None:
    """The kernels between matrix products that training takes; None: the fastest that work."""
    asked = context.training_run.training.kernels
    return "torch" if is_compiled(context, device) else None if asked == "auto" else asked
