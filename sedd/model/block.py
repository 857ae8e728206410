"""The parts of the transformer: noise-level embedding, block, final layer."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 # its usual name

from sedd.model.block_ops import add_branch_and_norm, gelu_mlp, modulation_rows, rotated_attention
from sedd.model.packing import Packing
from sedd.model.size import MLP_FACTOR, SINUSOIDS, VOCABULARY
from sedd.spec.model import ModelSpec


class NoiseLevel(nn.Module):
    """Embeds sigma_bar through the chance to have moved, 1 - exp(-sigma_bar): in [0, 1] for every schedule."""

    def __init__(self, cond: int) -> None:
        super().__init__()
        self.enter = nn.Linear(SINUSOIDS, cond)
        self.leave = nn.Linear(cond, cond)

    def forward(
        self,
        sigma_bar: Float[Tensor, "sequences"],
        labels: Float[Tensor, "sequences cond"] | None = None,
    ) -> Float[Tensor, "sequences cond"]:
        """The embedding of sigma_bar, or its sum with that of labels."""
        half = SINUSOIDS // 2
        # Angles reach 1000: float16 would lose them, autocast or not.
        exact = torch.promote_types(self.enter.weight.dtype, torch.float32)
        steps = torch.arange(half, device=sigma_bar.device, dtype=exact)
        frequency = torch.exp(-math.log(10_000.0) / half * steps)
        angle = -1000 * torch.expm1(-sigma_bar.to(exact)).unsqueeze(-1) * frequency
        waves = torch.cat((angle.cos(), angle.sin()), dim=-1).to(self.enter.weight.dtype)
        level: Tensor = self.leave(F.silu(self.enter(waves)))
        return F.silu(level if labels is None else level + labels)


class Block(nn.Module):
    """Attention and MLP; the noise level scales and shifts what enters each, and gates what leaves it.

    A branch is added to the stream where the next layer takes it up: in one pass over memory with that layer's norm.
    """

    def __init__(self, spec: ModelSpec, number: int) -> None:
        super().__init__()
        self.number = number
        self.heads = spec.heads
        self.reach = spec.token_shift
        self.norm_1 = nn.LayerNorm(spec.hidden, bias=False)
        self.qkv = nn.Linear(spec.hidden, 3 * spec.hidden, bias=False)
        self.out = nn.Linear(spec.hidden, spec.hidden, bias=False)
        self.norm_2 = nn.LayerNorm(spec.hidden, bias=False)
        self.up = nn.Linear(spec.hidden, MLP_FACTOR * spec.hidden)
        self.down = nn.Linear(MLP_FACTOR * spec.hidden, spec.hidden)
        self.modulation = nn.Linear(spec.cond, 6 * spec.hidden)

    def forward(
        self,
        x: Float[Tensor, "tokens hidden"],
        branch: Float[Tensor, "tokens hidden"] | None,
        gate: Float[Tensor, "sequences hidden"] | None,
        condition: Float[Tensor, "sequences cond"],
        turn: tuple[Tensor, Tensor],
        packing: Packing,
    ) -> tuple[
        Float[Tensor, "tokens hidden"], Float[Tensor, "tokens hidden"], Float[Tensor, "sequences hidden"]
    ]:
        """The stream, the branch that still has to be added to it, and that one's gate: given and returned."""
        modulation = self.modulation(condition)
        shift_1, factor_1, gate_1, shift_2, factor_2, gate_2 = modulation_rows(
            modulation, _exact(self.norm_1.weight), _exact(self.norm_2.weight), packing
        )
        place, dtype = 2 * self.number, modulation.dtype
        how = dtype, self.reach
        x, entering = add_branch_and_norm(x, branch, gate, factor_1, shift_1, packing, place, *how)
        mixed = self.out(rotated_attention(self.qkv(entering), turn, self.heads, packing))
        x, entering = add_branch_and_norm(x, mixed, gate_1, factor_2, shift_2, packing, place + 1, *how)
        return x, gelu_mlp(entering, self.up, self.down, packing), gate_2


def _exact(weight: Tensor) -> Tensor:
    """Float32 at least: where ranks gather a block in half precision its norms are, too."""
    return weight.to(torch.promote_types(weight.dtype, torch.float32))


class Final(nn.Module):
    """Layer norm, scale by the noise level, linear to the alphabet: in float32, where logits are made."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.place = 2 * spec.blocks
        self.norm = nn.LayerNorm(spec.hidden)
        self.modulation = nn.Linear(spec.cond, spec.hidden)
        self.output = nn.Linear(spec.hidden, VOCABULARY, bias=False)

    def forward(
        self,
        x: Float[Tensor, "tokens hidden"],
        branch: Float[Tensor, "tokens hidden"] | None,
        gate: Float[Tensor, "sequences hidden"] | None,
        condition: Float[Tensor, "sequences cond"],
        packing: Packing,
    ) -> Float[Tensor, "tokens 33"]:
        with torch.autocast(x.device.type, enabled=False):
            scale = 1 + self.modulation(condition.to(self.modulation.weight.dtype))
            factor, shift = self.norm.weight * scale, self.norm.bias * scale
            entering = add_branch_and_norm(x, branch, gate, factor, shift, packing, self.place)[1]
            logits: Tensor = self.output(entering)
        return logits.to(torch.promote_types(logits.dtype, torch.float32))
