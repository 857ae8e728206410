"""The transformer's parts: noise-level embedding, block, final layer."""

import math
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 # its usual name

from sedd.model.attention import attention
from sedd.model.modulation import gated_sum, norm_modulate
from sedd.model.packing import to_tokens
from sedd.model.rotary import rotate
from sedd.model.size import MLP_FACTOR, SINUSOIDS, VOCABULARY
from sedd.spec.model import ModelSpec


class Packing(NamedTuple):
    """Where the sequences lie, made once per forward pass, and how they attend."""

    sequence: Int[Tensor, "tokens"]
    cu_seqlens: Int[Tensor, "sequences_plus_1"]
    max_length: int
    attention: str | None


class NoiseLevel(nn.Module):
    """Embeds sigma_bar through the chance to have moved, 1 - exp(-sigma_bar): in [0, 1] for every schedule."""

    def __init__(self, cond: int) -> None:
        super().__init__()
        self.enter = nn.Linear(SINUSOIDS, cond)
        self.leave = nn.Linear(cond, cond)

    def forward(self, sigma_bar: Float[Tensor, "sequences"]) -> Float[Tensor, "sequences cond"]:
        half = SINUSOIDS // 2
        # Angles reach 1000: float16 would lose them, autocast or not.
        exact = torch.promote_types(self.enter.weight.dtype, torch.float32)
        steps = torch.arange(half, device=sigma_bar.device, dtype=exact)
        frequency = torch.exp(-math.log(10_000.0) / half * steps)
        angle = -1000 * torch.expm1(-sigma_bar.to(exact)).unsqueeze(-1) * frequency
        waves = torch.cat((angle.cos(), angle.sin()), dim=-1).to(self.enter.weight.dtype)
        level: Tensor = self.leave(F.silu(self.enter(waves)))
        return F.silu(level)


class Block(nn.Module):
    """Attention and MLP; the noise level scales and shifts what enters each, and gates what leaves it."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.heads = spec.heads
        self.dropout = spec.dropout
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
        condition: Float[Tensor, "sequences cond"],
        turn: tuple[Tensor, Tensor],
        packing: Packing,
    ) -> Float[Tensor, "tokens hidden"]:
        where = packing.sequence, packing.cu_seqlens
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = self.modulation(condition).chunk(6, dim=-1)
        entering = norm_modulate(x, self.norm_1.weight * (1 + scale_1), shift_1, *where)
        mixed = F.dropout(self._attend(entering, turn, packing), self.dropout, self.training)
        x = gated_sum(x, mixed, gate_1, *where)
        entering = norm_modulate(x, self.norm_2.weight * (1 + scale_2), shift_2, *where)
        inner = self.down(F.gelu(self.up(entering), approximate="tanh"))
        return gated_sum(x, F.dropout(inner, self.dropout, self.training), gate_2, *where)

    def _attend(self, x: Tensor, turn: tuple[Tensor, Tensor], packing: Packing) -> Tensor:
        q_and_k, v = rearrange(self.qkv(x), "t (g d) -> t g d", g=3 * self.heads).split(
            [2 * self.heads, self.heads], 1
        )
        q, k = rotate(q_and_k, *turn).chunk(2, dim=1)
        mixed = attention(q, k, v, packing.cu_seqlens, packing.max_length, implementation=packing.attention)
        out: Tensor = self.out(mixed.flatten(1))
        return out


class Final(nn.Module):
    """Layer norm, scale by the noise level, linear to the alphabet: in float32, where logits are made."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(spec.hidden)
        self.modulation = nn.Linear(spec.cond, spec.hidden)
        self.output = nn.Linear(spec.hidden, VOCABULARY, bias=False)

    def forward(
        self, x: Float[Tensor, "tokens hidden"], condition: Float[Tensor, "sequences cond"], packing: Packing
    ) -> Float[Tensor, "tokens 33"]:
        with torch.autocast(x.device.type, enabled=False):
            scale = self.modulation(condition.to(self.modulation.weight.dtype))
            rows = to_tokens(scale, packing.sequence, packing.cu_seqlens)
            logits: Tensor = self.output(self.norm(x.to(self.norm.weight.dtype)) * (1 + rows))
        return logits.to(torch.promote_types(logits.dtype, torch.float32))
