"""The network: a bidirectional transformer over packed tokens, conditioned on the noise level."""

import math
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from sedd.model.block import Block, Final, NoiseLevel
from sedd.model.block_ops import fastest_kernels
from sedd.model.embedding import Embedding
from sedd.model.label_embedding import LabelEmbedding
from sedd.model.packing import Packing, sequence_index
from sedd.model.rotary import rotation
from sedd.model.size import VOCABULARY
from sedd.spec.model import ModelSpec


def draw_dropout_seed() -> int:
    """The seed of one pass's dropout in the fused kernels, from torch's generator for the CPU."""
    return int(torch.randint(2**62, ()))


def _recomputed(block: nn.Module, *arguments: Any) -> Any:
    """What a block makes of its arguments; the backward pass computes it again."""
    from torch.utils.checkpoint import (
        checkpoint,
    )  # up to torch 2.6, at least, it imports sympy: half a second

    return checkpoint(block, *arguments, use_reentrant=False)


class Transformer(nn.Module):
    """Raw output for each token; what it means is said by `sedd.diffusion.parameterization`.

    `attention` names an implementation of `sedd.model.attention`, `kernels` what is between (`fused` or `torch`,
    `sedd.model.block_ops`), None takes the fastest; `activation_checkpointing` recomputes each block in the backward
    pass. `dropout_seed` [1] is where the fused kernels find their dropout's seed, None draws one for each pass. All may
    be changed at any time.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        attention: str | None = None,
        kernels: str | None = None,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.attention = attention
        self.kernels = kernels
        self.dropout = spec.dropout
        self.dropout_seed: Tensor | None = None
        self.activation_checkpointing = activation_checkpointing
        self.head_dim = spec.hidden // spec.heads
        self.embedding = Embedding(VOCABULARY, spec.hidden)
        self.noise_level = NoiseLevel(spec.cond)
        self.conditions = LabelEmbedding(spec.conditions, spec.cond) if spec.conditions else None
        self.blocks = nn.ModuleList(Block(spec, number) for number in range(spec.blocks))
        self.final = Final(spec)
        self._initialise()

    def forward(
        self,
        tokens: Int[Tensor, "tokens"],
        cu_seqlens: Int[Tensor, "sequences_plus_1"],
        sigma_bar: Float[Tensor, "sequences"],
        *,
        max_length: int,
        labels: Float[Tensor, "sequences fields"] | None = None,
    ) -> Float[Tensor, "tokens 33"]:
        """Sequences lie end to end: sequence i is tokens[cu_seqlens[i] : cu_seqlens[i + 1]]; the last ends `tokens`.

        `cu_seqlens` is int32; empty sequences are allowed; `max_length` is at least the longest length.
        `labels` are those of a network with conditions, NaN where there is none; None: none of any.
        """
        packing = self._packing(tokens, cu_seqlens, max_length)
        place = torch.arange(tokens.numel(), device=tokens.device)
        x = self.embedding(tokens)
        turn = rotation(place - cu_seqlens.long()[packing.sequence], self.head_dim, x.dtype)
        condition = self._condition(sigma_bar, labels)
        branch = gate = None
        for block in self.blocks:
            if self.activation_checkpointing and self.training:
                x, branch, gate = _recomputed(block, x, branch, gate, condition, turn, packing)
            else:
                x, branch, gate = block(x, branch, gate, condition, turn, packing)
        output: Tensor = self.final(x, branch, gate, condition, packing)
        return output

    def _condition(self, sigma_bar: Tensor, labels: Tensor | None) -> Tensor:
        if self.conditions is None:
            level: Tensor = self.noise_level(sigma_bar)
            return level
        if labels is None:
            labels = self.conditions.without(sigma_bar.numel(), sigma_bar.device)
        told: Tensor = self.noise_level(sigma_bar, self.conditions(labels))
        return told

    def _packing(self, tokens: Tensor, cu_seqlens: Tensor, max_length: int) -> Packing:
        dropout = self.dropout if self.training else 0.0
        kernels = self.kernels or self._fastest_kernels()
        return Packing(
            sequence=sequence_index(cu_seqlens, tokens.numel()),
            cu_seqlens=cu_seqlens,
            max_length=max_length,
            attention=self.attention,
            kernels=kernels,
            dropout=dropout,
            seed=self._dropout_seed(tokens.device) if kernels == "fused" and dropout else None,
        )

    def _dropout_seed(self, device: torch.device) -> Tensor:
        if self.dropout_seed is not None:
            return self.dropout_seed
        # Drawn on the CPU, so that nobody waits for a GPU; blocks that are recomputed drop the same entries.
        return torch.full((1,), draw_dropout_seed(), device=device)

    def _fastest_kernels(self) -> str:
        weight = self.embedding.weight
        if torch.compiler.is_compiling() or weight.dtype != torch.float32:
            return "torch"
        device = weight.device
        is_mixed = torch.is_autocast_enabled(device.type)
        dtype = torch.get_autocast_dtype(device.type) if is_mixed else weight.dtype
        return fastest_kernels(device, dtype, weight.shape[1])

    def forward_padded(
        self, tokens: Int[Tensor, "batch length"], sigma_bar: Float[Tensor, "batch"]
    ) -> Float[Tensor, "batch length 33"]:
        """The same for sequences of one length."""
        batch, length = tokens.shape
        cu_seqlens = torch.arange(batch + 1, dtype=torch.int32, device=tokens.device) * length
        output: Tensor = self(tokens.flatten(), cu_seqlens, sigma_bar, max_length=length)
        return output.view(batch, length, VOCABULARY)

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5 / math.sqrt(3))
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.normal_(self.embedding.weight, std=0.02)
        # Each block starts as the identity, and the output as "I do not know".
        for module in self.modules():
            if isinstance(module, Block):
                nn.init.zeros_(module.modulation.weight)
        nn.init.zeros_(self.final.modulation.weight)
        nn.init.zeros_(self.final.output.weight)
