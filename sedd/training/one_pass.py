"""Clipping, AdamW and the average of the weights in one pass over them, on a GPU: adamw.cu of sedd/model/fused.

One operator of torch's after the other reads and writes the weights and what belongs to them three times as often. The
state is that of torch's AdamW, so that checkpoints do not tell which of the two has written them.
"""

import ctypes
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sedd.model.adamw import AdamW
from sedd.model.ema import Ema
from sedd.model.fused.launch import at, optimizer_module
from sedd.model.nvrtc import KernelError

_CHUNK = 16_384
"""Numbers of a block of threads, as in adamw.cu."""
_TABLES = 64
"""That are kept: each CUDA graph leaves the gradient elsewhere."""
_PARAMETER = np.dtype(
    [(name, np.uint64) for name in ("weight", "momentum", "square", "average", "step", "gradient", "count")]
    + [("decay", np.float32), ("share", np.float32)]
)
"""Where the numbers of a parameter lie, as in adamw.cu."""


class _Settings(ctypes.Structure):
    _fields_ = (
        *((name, ctypes.c_double) for name in ("beta1", "beta2")),
        *((name, ctypes.c_float) for name in ("rate", "epsilon", "follow", "clip")),
    )


class OnePassAdamW(AdamW):
    """AdamW whose `clip_and_step` does all that follows the gradient; `step` is torch's."""

    def __init__(self, groups: list[dict[str, Any]], **how: Any) -> None:
        super().__init__(groups, **how)
        self._sent: dict[bytes, tuple[Tensor, ...]] = {}

    @torch.no_grad()
    def clip_and_step(self, rate: float, scaler: torch.amp.GradScaler, ema: Ema, clip_norm: float) -> Tensor:
        """Unscale the gradient, clip it, step and move the averages; returns the norm, on the device.

        A group learns at `rate` times its `rate_scale`, if it has one.

        A gradient that is not finite changes no weight, and lowers the scale.
        """
        trained = [(p, group) for group in self.param_groups for p in group["params"] if p.grad is not None]
        table, owners, starts = self._tables(trained, ema)
        device, scale = table.device, scaler._get_scale_async() if scaler.is_enabled() else None
        first = self.param_groups[0]
        settings = _Settings(*first["betas"], rate, first["eps"], ema.next_share(), clip_norm)
        sums, shared = (torch.empty(n, device=device) for n in (owners.numel(), 3))
        module, blocks = optimizer_module(device), (owners.numel(), 1)
        counts = ctypes.c_int(len(trained)), ctypes.c_int(owners.numel())
        chunks = at(table), at(owners), at(starts)
        module.launch("squared_gradients", blocks, 256, *chunks, at(scale), at(sums))
        module.launch(
            "gradient_norm", (1, 1), 256,
            at(table), counts[0], at(sums), counts[1], at(scale), settings, at(shared),
        )  # fmt: skip
        module.launch("adamw", blocks, 256, *chunks, at(shared), settings)
        ema.move({id(p) for p, _ in trained})
        if scaler.is_enabled():
            # What `unscale_` would note: `update` reads it.
            scaler._per_optimizer_states[id(self)]["found_inf_per_device"] = {device: shared[1:2]}
            scaler.update()
        return shared[0]

    def _tables(self, trained: list[tuple[Tensor, dict[str, Any]]], ema: Ema) -> tuple[Tensor, ...]:
        """Of parameters, and which of them and where in it each block begins. Sent when new, without a wait."""
        rows = np.array([self._row(p, group, ema) for p, group in trained], dtype=_PARAMETER)
        key = rows.tobytes()
        if key not in self._sent:
            chunks = [
                (n, start) for n, row in enumerate(rows) for start in range(0, int(row["count"]), _CHUNK)
            ]
            owners, starts = (np.array(part) for part in zip(*chunks, strict=True))
            if len(self._sent) >= _TABLES:
                self._sent.clear()
            arrays = rows.view(np.uint8), owners.astype(np.int32), starts.astype(np.int64)
            device = trained[0][0].device
            self._sent[key] = tuple(_sent(torch.from_numpy(array), device) for array in arrays)
        return self._sent[key]

    def _row(self, p: Tensor, group: dict[str, Any], ema: Ema) -> tuple[float, ...]:
        state = self.state[p]
        if not state:
            state["step"] = torch.zeros((), device=p.device)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(p), torch.zeros_like(p)
        assert p.grad is not None
        assert p.grad.is_contiguous(), "a gradient is laid out like its parameter"
        places = (p, state["exp_avg"], state["exp_avg_sq"], ema.average_of(p), state["step"], p.grad)
        share = group.get("rate_scale", 1.0)
        return (*(place.data_ptr() for place in places), p.numel(), group["weight_decay"], share)


def _sent(tensor: Tensor, device: torch.device) -> Tensor:
    # Page-locked memory: from any other the host waits for what the GPU was told before.
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor


def why_not_one_pass(parameters: list[torch.nn.Parameter]) -> str | None:
    """Why these parameters cannot be trained so; None if they can."""
    device = parameters[0].device
    if device.type != "cuda":
        return f"it is for GPUs, not for {device.type}"
    if any(p.dtype != torch.float32 or not p.is_contiguous() for p in parameters):
        return "a parameter is not float32"
    try:
        optimizer_module(device)
    except KernelError as e:
        return str(e)
    return None
