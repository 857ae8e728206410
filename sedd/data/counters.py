"""Random bits as a pure function of counters, so that no generator's position has to be saved.

SplitMix64 (Steele, Lea, Flood 2014, doi:10.1145/2660193.2660195). Written out here because numpy promises stable
streams for its bit generators but not for `permutation` or `integers`, and a run must see the same data under
every numpy.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


def counter_key(purpose: str, *counters: int) -> np.uint64:
    """A 64-bit key for one purpose, such as `counter_key("block order", seed, epoch)`."""
    digest = hashlib.blake2b(repr((purpose, *counters)).encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))


def random_bits(key: np.uint64, counters: NDArray[np.integer]) -> NDArray[np.uint64]:
    """64 random bits for each counter: element c of the SplitMix64 stream that starts at `key`."""
    bits = counters.astype(np.uint64)
    bits += np.uint64(1)
    bits *= _GOLDEN
    bits += key
    bits ^= bits >> np.uint64(30)
    bits *= _MIX_1
    bits ^= bits >> np.uint64(27)
    bits *= _MIX_2
    bits ^= bits >> np.uint64(31)
    return bits


def permutation(key: np.uint64, size: int) -> NDArray[np.int64]:
    """A random order of 0..size-1."""
    return np.argsort(random_bits(key, np.arange(size)), kind="stable").astype(np.int64, copy=False)
