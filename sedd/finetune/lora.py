"""Low-rank adapters of linear layers, Hu et al. 2021 (arXiv 2106.09685)."""

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sedd.model.block import Block
from sedd.model.transformer import Transformer
from sedd.spec.finetune import LoraSpec

_ADAPTER = re.compile(r"(.+)\.lora_a")


class AdaptedLinear(nn.Linear):
    """A linear layer whose weight is W + scale B A: W stays, A [rank, in] and B [out, rank] learn.

    The sum is made anew in each pass, in W's precision, and then used as any weight: by every kernel, and with the
    bits of a merged network. A product of matrices of this rank costs next to nothing beside the layer's own. In state
    dicts `weight` is W, as in the plain network.
    """

    lora_a: nn.Parameter
    lora_b: nn.Parameter

    def __init__(self, plain: nn.Linear, lora: LoraSpec) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = plain.in_features, plain.out_features
        # Not by attribute: that name is the sum's.
        self._parameters.update(plain._parameters)
        self.scale = scale_of(lora)
        self.lora_a = nn.Parameter(plain.weight.new_empty(lora.rank, self.in_features))
        self.lora_b = nn.Parameter(plain.weight.new_zeros(self.out_features, lora.rank))
        nn.init.normal_(self.lora_a, std=self.in_features**-0.5)

    @property
    def weight(self) -> Tensor:  # type: ignore[override] # a sum, where the plain layer has a parameter
        """The sum."""
        plain = self._parameters["weight"]
        assert plain is not None
        with torch.autocast(plain.device.type, enabled=False):
            return merged(plain, self.lora_a, self.lora_b, self.scale)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.weight, self.bias)


def merged(weight: Tensor, a: Tensor, b: Tensor, scale: float) -> Tensor:
    """W + scale B A."""
    return weight + scale * (b @ a)


def scale_of(lora: LoraSpec) -> float:
    """alpha / rank."""
    return lora.alpha / lora.rank


def add_adapters(model: Transformer, lora: LoraSpec) -> None:
    """Put adapters beside the named matrices of every block, in place; at first the network computes the same.

    A is drawn from torch's generator of the CPU, where the model must still be.
    """
    for block in model.modules():
        if isinstance(block, Block):
            for name in lora.matrices:
                setattr(block, name, AdaptedLinear(getattr(block, name), lora))


def plain_weights(weights: Mapping[str, Tensor], lora: LoraSpec | None) -> dict[str, Tensor]:
    """A network's weights with its adapters merged into them: those of a plain network."""
    adapted = [match[1] for name in weights if (match := _ADAPTER.fullmatch(name))]
    plain = {name: weight for name, weight in weights.items() if ".lora_" not in name}
    for layer in adapted if lora else ():
        a, b = weights[f"{layer}.lora_a"], weights[f"{layer}.lora_b"]
        plain[f"{layer}.weight"] = merged(plain[f"{layer}.weight"], a, b, scale_of(lora))  # type: ignore[arg-type]
    return plain


def trained_weights(saved: Mapping[str, Any], *, raw: bool) -> dict[str, Tensor]:
    """A checkpoint's weights, with the averages of those that were trained, or with `raw` their last values."""
    return dict(saved["model"]) if raw else saved["model"] | saved["ema"]["averages"]
