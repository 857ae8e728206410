"""Cut a network by torch's FSDP2: a block's weights are whole while it computes, and nowhere else."""

import sys
import warnings

import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

from sedd.errors import SpecError
from sedd.model.transformer import Transformer
from sedd.training.distributed import Ranks
from sedd.training.precision import Precision


def shard_network(model: Transformer, ranks: Ranks, precision: Precision, device: torch.device) -> None:
    """Cut each block, and what is around them, over the ranks. In place; every rank calls it.

    Blocks are gathered in the format that autocast would cast their weights to, half as many bytes; gradients are
    added up in float32. What is around them computes in float32.

    Raises:
        SpecError: this torch cannot do that on a CPU.
    """
    # On CPUs, FSDP of torch 2.6 calls what is not there, and gloo of 2.8 adds gradients up that it is to average.
    if device.type == "cpu" and torch.__version__ < "2.10":  # a `TorchVersion`, which compares numbers
        raise SpecError(
            f"training.shard is full, which takes torch 2.10 on a CPU: this is {torch.__version__}",
            hint="shard: optimizer works with it, and on GPUs full does, too",
        )
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    # The gates that a block returns are views, which nobody changes in place.
    warnings.filterwarnings("ignore", message="FSDP2-wrapped module", category=UserWarning)
    is_half = precision.compute is not torch.float32
    blocks = MixedPrecisionPolicy(
        param_dtype=precision.compute if is_half else None,
        reduce_dtype=torch.float32 if is_half else None,
        cast_forward_inputs=False,  # the residual stream stays float32
    )
    scales = {n: p.rate_scale for n, p in model.named_parameters() if hasattr(p, "rate_scale")}
    torch.empty(
        0, device=device
    )  # else a mesh would choose the GPU, by LOCAL_RANK: a task may see its own as 0
    mesh = init_device_mesh(device.type, (ranks.size,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh, reshard_after_forward=True, mp_policy=blocks)
    around = MixedPrecisionPolicy(cast_forward_inputs=False)
    fully_shard(model, mesh=mesh, reshard_after_forward=True, mp_policy=around)
    for name, parameter in model.named_parameters():
        if name in scales:
            parameter.rate_scale = scales[name]  # type: ignore[attr-defined] # ours, for optimisers
    for module in model.modules():
        if isinstance(module, FSDPModule):
            # FSDP of torch 2.6 pads its rows, and moves them, when it gathers for the first time: before we look.
            module.unshard()
            module.reshard()


def is_sharded(module: nn.Module) -> bool:
    """Whether FSDP2 has cut it: its parameters are DTensors, and its forward pass takes all ranks."""
    fsdp = sys.modules.get(
        "torch.distributed.fsdp"
    )  # nothing is cut before that is imported, which takes a second
    return fsdp is not None and isinstance(module, fsdp.FSDPModule)
