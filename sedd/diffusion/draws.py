"""Random numbers: uniforms from a torch generator or from counters, and categorical draws."""

import math
from dataclasses import dataclass
from typing import TypeVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

Packed = Int[Tensor, "tokens"]
"""Sequences end to end."""
Borders = Int[Tensor, "sequences_plus_1"]
"""Where each of them begins, and where the last one ends."""
PerToken = Float[Tensor, "tokens"]
PerSequence = Float[Tensor, "sequences"]


@dataclass(frozen=True, eq=False, slots=True)
class CounterNoise:
    """Uniforms that are a pure function of one 64-bit key per element: the same on every device.

    Two calls of `uniform` on one object give the same numbers; `stream` makes another object with its own.
    """

    keys: Int[Tensor, "*batch"]

    def uniform(self, columns: int, dtype: torch.dtype) -> Float[Tensor, "*batch columns"]:
        """Uniforms in [0, 1) for each element."""
        column = torch.arange(1, columns + 1, device=self.keys.device)
        return _unit(_mix(self.keys.unsqueeze(-1) + column * _GOLDEN), dtype)

    def stream(self, index: int) -> "CounterNoise":
        """Independent numbers for the same elements."""
        return CounterNoise(_mix(self.keys ^ _scalar_key(index)))


Randomness = torch.Generator | CounterNoise


def counter_noise(
    seed: int,
    step: int,
    samples: Int[Tensor, "sequences"],
    cu_seqlens: Borders,
    tokens: int,
    places: Int[Tensor, "{tokens}"] | None = None,
) -> CounterNoise:
    """Noise keyed by (seed, step, sample, position in the sequence): no batch, rank or device changes it.

    Shapes: `samples` holds each packed sequence's number in the run's order of data; `places` stand in for positions.
    """
    index, position = packed_positions(cu_seqlens, tokens)
    position = position if places is None else places
    per_sequence = sequence_noise(seed, step, samples).keys
    return CounterNoise(_mix(per_sequence[index] + position * _GOLDEN))


def sequence_noise(seed: int, step: int, samples: Int[Tensor, "sequences"]) -> CounterNoise:
    """Noise keyed by (seed, step, sample)."""
    return CounterNoise(_mix(_scalar_key(seed, step) ^ _mix(samples.long() + _GOLDEN)))


def packed_positions(
    cu_seqlens: Borders, tokens: int
) -> tuple[Int[Tensor, "{tokens}"], Int[Tensor, "{tokens}"]]:
    """For each packed token its sequence and its position therein; sequences may be empty."""
    place = torch.arange(tokens, device=cu_seqlens.device, dtype=cu_seqlens.dtype)
    # Tokens behind the last sequence (filling of a fixed-size batch) count to the last one.
    index = (torch.searchsorted(cu_seqlens, place, right=True) - 1).clamp_max(cu_seqlens.numel() - 2)
    return index, place.long() - cu_seqlens.long()[index]


def uniform(
    shape: tuple[int, ...], columns: int, randomness: Randomness, *, dtype: torch.dtype, device: torch.device
) -> Float[Tensor, "*batch columns"]:
    """Uniforms in [0, 1): `columns` for each element of `shape`."""
    if isinstance(randomness, CounterNoise):
        return randomness.uniform(columns, dtype)
    made = torch.rand(*shape, columns, dtype=dtype, generator=randomness, device=randomness.device)
    return made.to(device)


def draw_change(
    probabilities: Float[Tensor, "*batch n"], x: Int[Tensor, "*batch"], u: Float[Tensor, "*batch"]
) -> Int[Tensor, "*batch"]:
    """Draw the next token by inverting the distribution at u, the current token's own interval lying last.

    In float64, as float32 and Gumbel draws lose events rarer than about 1e-7. A token of probability zero is never
    drawn. Whether x changes depends on u and on the total probability of a change alone.
    """
    mass = probabilities.double()
    stay = mass.gather(-1, x.long().unsqueeze(-1))
    edges = mass.scatter(-1, x.long().unsqueeze(-1), 0.0).cumsum(-1)
    moves = edges[..., -1:]
    target = u.double().unsqueeze(-1) * (moves + stay)
    drawn = torch.searchsorted(edges, target, right=True).clamp_max(mass.shape[-1] - 1)
    return torch.where(target < moves, drawn, x.unsqueeze(-1)).squeeze(-1)


Number = TypeVar("Number", int, Tensor)

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit number
_MULTIPLY_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MULTIPLY_2 = -7723592293110705685  # 0x94D049BB133111EB


def _scalar_key(*numbers: int) -> int:
    """One signed 64-bit key of a few numbers, made without a tensor: one would wait for the GPU, or be slow to make."""
    key = 0
    for number in numbers:
        key = _mix(_mix(key + _GOLDEN) ^ number)
        key = (key + 2**63) % 2**64 - 2**63
    return key


def _mix(z: Number) -> Number:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014): on int64 that wrap around, or on numbers modulo 2^64."""
    z = (z ^ _shift(z, 30)) * _MULTIPLY_1
    z = (z ^ _shift(z, 27)) * _MULTIPLY_2
    return z ^ _shift(z, 31)


def _shift(z: Number, bits: int) -> Number:
    """Logical shift right: torch's own copies the sign."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _unit(z: Tensor, dtype: torch.dtype) -> Tensor:
    """The upper bits as a number in [0, 1) that the dtype holds exactly."""
    bits = round(-math.log2(torch.finfo(dtype).eps)) + 1
    return _shift(z, 64 - bits).to(dtype) * 2.0**-bits
