"""Seeds from counters: what is random at a step is a function of (seed, purpose, step, part) alone."""

import hashlib
import struct

import torch

NOISE, TIMES, DROPOUT, INIT, VALIDATION, SAMPLING = range(6)
"""Purposes: independent streams."""


def counter_seed(seed: int, purpose: int, *counters: int) -> int:
    """A 63-bit seed that any change of an argument changes unpredictably."""
    packed = struct.pack(f"<{2 + len(counters)}q", seed, purpose, *counters)
    return int.from_bytes(hashlib.blake2b(packed, digest_size=8).digest(), "little") >> 1


def generator(device: torch.device, seed: int, purpose: int, *counters: int) -> torch.Generator:
    """A generator on `device` at the start of the counters' own stream."""
    return torch.Generator(device).manual_seed(counter_seed(seed, purpose, *counters))


def unit_interval(seed: int, purpose: int, *counters: int) -> float:
    """A number in [0, 1) for the counters."""
    return counter_seed(seed, purpose, *counters) / 2**63
