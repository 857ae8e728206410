"""Hidden states of a trained network, for each residue or as the mean of each protein, layer by layer."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sedd.diffusion.conditional import cleanest_level
from sedd.inference.load_network import Trained
from sedd.inference.pack import batches, pack
from sedd.model.packing import sequence_index, sum_over_sequences
from sedd.spec.inference import EmbedOptions

PART_PROTEINS = 1000
"""Proteins that a job embeds together: what it loses at most when it is stopped."""

Embedding = dict[str, NDArray[np.float32]]
"""By layer's name: [proteins, hidden] where states are averaged, else [residues of all proteins, hidden]."""


def embed(
    trained: Trained,
    sequences: Sequence[NDArray[np.uint8]],
    how: EmbedOptions,
    *,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Embedding:
    """The hidden states of sequences, in their order; float32, whatever precision the network computes in.

    Raises:
        UsageError: a layer that the network does not have.
    """
    layers = how.layer_numbers(trained.experiment.model.blocks)
    level = how.sigma_bar if how.sigma_bar is not None else cleanest_level(trained.objective.noise)
    found: dict[int, list[NDArray[np.float32]]] = {layer: [] for layer in layers}
    for first, stop in batches([len(tokens) for tokens in sequences], trained.batch_residues):
        tokens, borders, longest = pack(sequences[first:stop], trained.device)
        sigma_bar = torch.full((stop - first,), level, dtype=torch.float64, device=trained.device)
        with _states(trained, borders, tokens.numel()) as states:
            trained.network(borders, longest)(tokens, sigma_bar)
        for layer in layers:
            kept = states[layer].float()
            if how.pooling == "mean":
                kept = sum_over_sequences(kept, borders) / borders.diff().clamp_min(1).unsqueeze(-1)
            found[layer].append(kept.cpu().numpy())
        progress(stop, len(sequences))
    return {layer_name(layer): np.concatenate(found[layer]) for layer in layers}


def layer_name(layer: int) -> str:
    """Name of a layer's column."""
    return f"layer_{layer}"


@contextmanager
def _states(trained: Trained, borders: Tensor, tokens: int) -> Iterator[dict[int, Tensor]]:
    """Hidden states by layer of the forward pass within: what a layer hands to the next one."""
    states: dict[int, Tensor] = {}
    index = sequence_index(borders, tokens)

    def keep(layer: int) -> Callable[[Any, Any, Any], None]:
        def hook(module: Any, given: Any, output: Any) -> None:
            if layer == 0:
                states[0] = output
                return
            # A block's last branch is added where the next one begins.
            x, branch, gate = output
            states[layer] = x + gate.float()[index] * branch.float()

        return hook

    parts = [trained.model.embedding, *trained.model.blocks]
    handles = [part.register_forward_hook(keep(layer)) for layer, part in enumerate(parts)]
    try:
        yield states
    finally:
        for handle in handles:
            handle.remove()
