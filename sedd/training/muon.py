"""Muon for the matrices of the blocks, AdamW for the rest.

A matrix moves along its orthogonalised momentum: in all directions alike, however unevenly its gradient fills them.
Jordan et al. 2024 (https://kellerjordan.github.io/posts/muon), with the step's size of Liu et al. 2025 (arXiv
2502.16982), which is about AdamW's: one learning rate serves both.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sedd.model.adamw import AdamW, PlainOptimizer
from sedd.model.block import Block
from sedd.model.transformer import Transformer

_MOMENTUM = 0.95
_RMS = 0.2  # root mean square of AdamW's steps, as arXiv 2502.16982 found it
_POLYNOMIAL = (
    3.4445,
    -4.7750,
    2.0315,
)  # Jordan's: takes singular values from (0, 1] to about 1 in five rounds
_ROUNDS = 5


Orthogonalised = Callable[[Sequence[Tensor], Sequence[int], torch.dtype], list[tuple[list[Tensor], int]]]
"""(directions of weights, matrices in each, format) → each weight's steps, one below the other, and a matrix's longer
side."""


class Muon(PlainOptimizer):
    """Optimiser of `matrices`, each with the number of matrices that lie in it one below the other, and of `others`.

    `rounding` is the number format in which momentum is orthogonalised: half precision is enough. Like fused AdamW it
    takes `found_inf` on the device: a step whose gradient is not finite changes nothing.
    """

    _step_supports_amp_scaling = True

    def __init__(
        self,
        matrices: Sequence[tuple[Tensor, int]],
        others: list[dict[str, Any]],
        *,
        lr: float,
        weight_decay: float,
        betas: tuple[float, float],
        rounding: torch.dtype = torch.float32,
        orthogonalised: "Orthogonalised | None" = None,
    ) -> None:
        """`orthogonalised` makes steps of directions; by default of whole matrices, as they are here."""
        self._orthogonalised = orthogonalised or together
        self.adamw = AdamW(others, lr=lr, betas=betas, fused=True)
        own = {"params": [weight for weight, _ in matrices], "weight_decay": weight_decay}
        super().__init__([own], {"lr": lr})
        self._rounding = rounding
        self._parts = [parts for _, parts in matrices]
        for weight, _ in matrices:
            self.state[weight]["momentum"] = torch.zeros_like(weight)
        self.param_groups += self.adamw.param_groups

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override] # no closure is ever given
        """Take a step with the gradients that are there."""
        found_inf: Tensor | None = getattr(self, "found_inf", None)
        self.adamw.found_inf = found_inf  # type: ignore[attr-defined] # as GradScaler does
        self._move_matrices(found_inf)
        self.adamw.step()

    def _move_matrices(self, found_inf: Tensor | None) -> None:
        group = self.param_groups[0]
        weights: list[Tensor] = group["params"]
        device = weights[0].device
        is_good = (
            torch.ones((), device=device) if found_inf is None else 1 - found_inf.reshape(()).clamp_max(1)
        )
        directions, rates = [], []
        for weight in weights:
            directions.append(self._direction(weight, is_good))
            rates.append(group["lr"] * getattr(weight, "rate_scale", 1.0))
            weight.mul_(1 - rates[-1] * group["weight_decay"] * is_good)
        steps = self._orthogonalised(directions, self._parts, self._rounding)
        for weight, rate, (parts, side) in zip(weights, rates, steps, strict=True):
            for part, step in zip(weight.chunk(len(parts)), parts, strict=True):
                part.addcmul_(step, is_good, value=-(rate * _RMS * side**0.5))

    def _direction(self, weight: Tensor, is_good: Tensor) -> Tensor:
        """Nesterov's momentum, of this step's gradient and those before."""
        assert weight.grad is not None
        gradient = torch.where(is_good > 0, weight.grad, 0)
        momentum: Tensor = self.state[weight]["momentum"]
        momentum.lerp_(gradient, (1 - _MOMENTUM) * is_good)
        return gradient.lerp(momentum, _MOMENTUM)

    def state_dict(self) -> dict[str, Any]:
        """Plain tensors and numbers."""
        momenta = [self.state[weight]["momentum"] for weight in self.param_groups[0]["params"]]
        return {"momentum": momenta, "adamw": self.adamw.state_dict()}

    @torch.no_grad()
    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take over what `state_dict` gave."""
        for weight, saved in zip(self.param_groups[0]["params"], state_dict["momentum"], strict=True):
            self.state[weight]["momentum"].copy_(saved)
        self.adamw.load_state_dict(state_dict["adamw"])
        self.param_groups[1:] = self.adamw.param_groups  # it has made new ones


def together(
    directions: Sequence[Tensor], parts: Sequence[int], dtype: torch.dtype
) -> list[tuple[list[Tensor], int]]:
    """Orthogonalise whole matrices, those of one shape together."""
    alike: dict[torch.Size, list[Tensor]] = {}
    cut = [list(direction.chunk(count)) for direction, count in zip(directions, parts, strict=True)]
    for matrices in cut:
        alike.setdefault(matrices[0].shape, []).extend(matrices)
    made = {shape: iter(orthogonalise(torch.stack(found), dtype)) for shape, found in alike.items()}
    return [([next(made[m.shape]) for m in matrices], max(matrices[0].shape)) for matrices in cut]


def orthogonalise(matrices: Tensor, dtype: torch.dtype) -> Tensor:
    """The nearest orthogonal matrices [count, rows, columns], roughly: singular values between 0.7 and 1.2."""
    a, b, c = _POLYNOMIAL
    is_tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if is_tall else matrices
    x = (x / x.norm(dim=(-2, -1), keepdim=True).clamp_min(1e-30)).to(dtype)
    for _ in range(_ROUNDS):
        square = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return (x.mT if is_tall else x).to(matrices.dtype)


def block_matrices(model: Transformer) -> list[tuple[Tensor, int]]:
    """The matrices within the blocks that learn, and how many lie in each: queries, keys and values are three."""
    return [
        (layer.weight, parts)
        for block in model.modules()
        if isinstance(block, Block)
        for layer, parts in ((block.qkv, 3), (block.out, 1), (block.up, 1), (block.down, 1))
        if layer.weight.requires_grad
    ]
