"""Sequences packed end to end for one call of the network."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def batches(lengths: Sequence[int], at_most: int) -> Iterator[tuple[int, int]]:
    """Runs of sequences, as (first, behind the last), of at most this many residues, or of one sequence."""
    first, residues = 0, 0
    for number, length in enumerate(lengths):
        if number > first and residues + length > at_most:
            yield first, number
            first, residues = number, 0
        residues += length
    if lengths:
        yield first, len(lengths)


def pack(sequences: Sequence[NDArray[np.uint8]], device: torch.device) -> tuple[Tensor, Tensor, int]:
    """Tokens end to end (int64), their borders (int32, one more than sequences), and the longest length."""
    lengths = [len(tokens) for tokens in sequences]
    tokens = torch.from_numpy(np.concatenate(sequences)).to(device, torch.int64)
    borders = torch.tensor(np.cumsum([0, *lengths]), dtype=torch.int32, device=device)
    return tokens, borders, max(lengths)
