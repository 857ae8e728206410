"""Random numbers of a design as a function of counters: the same on every machine, and in every batch."""

import hashlib
import struct

import numpy as np
from numpy.typing import NDArray

GAP, HIT = range(2)
"""Purposes: independent numbers."""


def uniforms(count: int, seed: int, purpose: int, *counters: int) -> NDArray[np.float64]:
    """Numbers in [0, 1) that any change of an argument but `count` changes unpredictably."""
    packed = struct.pack(f"<{2 + len(counters)}q", seed, purpose, *counters)
    key = np.frombuffer(hashlib.blake2b(packed, digest_size=16).digest(), "<u8")
    raw = np.random.Philox(key=key).random_raw(count)
    return (raw >> np.uint64(11)).astype(np.float64) * 2.0**-53
