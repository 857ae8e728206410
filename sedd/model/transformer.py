"""The network: a bidirectional transformer over packed tokens, conditioned on the noise level."""

import math

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sedd.model.block import Block, Final, NoiseLevel, Packing
from sedd.model.packing import sequence_index
from sedd.model.rotary import rotation
from sedd.model.size import VOCABULARY
from sedd.spec.model import ModelSpec


class Transformer(nn.Module):
    """Raw output for each token; what it means is said by `sedd.diffusion.parameterization`.

    `attention` names an implementation of `sedd.model.attention`, None takes the fastest; `activation_checkpointing`
    recomputes each block in the backward pass. Both may be changed at any time.
    """

    def __init__(
        self, spec: ModelSpec, *, attention: str | None = None, activation_checkpointing: bool = False
    ) -> None:
        super().__init__()
        self.attention = attention
        self.activation_checkpointing = activation_checkpointing
        self.head_dim = spec.hidden // spec.heads
        self.embedding = nn.Embedding(VOCABULARY, spec.hidden)
        self.noise_level = NoiseLevel(spec.cond)
        self.blocks = nn.ModuleList(Block(spec) for _ in range(spec.blocks))
        self.final = Final(spec)
        self._initialise()

    def forward(
        self,
        tokens: Int[Tensor, "tokens"],
        cu_seqlens: Int[Tensor, "sequences_plus_1"],
        sigma_bar: Float[Tensor, "sequences"],
        *,
        max_length: int,
    ) -> Float[Tensor, "tokens 33"]:
        """Sequences lie end to end: sequence i is tokens[cu_seqlens[i] : cu_seqlens[i + 1]]; the last ends `tokens`.

        `cu_seqlens` is int32; empty sequences are allowed; `max_length` is at least the longest length.
        """
        index = sequence_index(cu_seqlens, tokens.numel())
        place = torch.arange(tokens.numel(), device=tokens.device)
        packing = Packing(index, cu_seqlens, max_length, self.attention)
        x = self.embedding(tokens)
        turn = rotation(place - cu_seqlens.long()[index], self.head_dim, x.dtype)
        condition = self.noise_level(sigma_bar)
        for block in self.blocks:
            if self.activation_checkpointing and self.training:
                x = checkpoint(block, x, condition, turn, packing, use_reentrant=False)
            else:
                x = block(x, condition, turn, packing)
        output: Tensor = self.final(x, condition, packing)
        return output

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
