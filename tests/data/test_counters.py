import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sedd.data.counters import counter_key, permutation, random_bits

_64_BITS = 2**64 - 1


def _splitmix64(state: int, draws: int) -> list[int]:
    """The generator as its authors give it, a draw at a time."""
    values = []
    for _ in range(draws):
        state = (state + 0x9E3779B97F4A7C15) & _64_BITS
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & _64_BITS
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & _64_BITS
        values.append(z ^ (z >> 31))
    return values


@given(st.integers(0, _64_BITS))
def test_bits_are_the_splitmix64_stream(key: int):
    assert random_bits(np.uint64(key), np.arange(5)).tolist() == _splitmix64(key, 5)


def test_splitmix64_of_1234567_is_the_published_one():
    # https://rosettacode.org/wiki/Pseudo-random_numbers/Splitmix64
    assert random_bits(np.uint64(1234567), np.arange(2)).tolist() == [
        6457827717110365317,
        3203168211198807973,
    ]


@given(st.integers(0, 200), st.integers(0, 100))
def test_permutation_holds_each_number_once(size: int, seed: int):
    assert sorted(permutation(counter_key("test", seed), size).tolist()) == list(range(size))


def test_keys_differ_by_purpose_and_by_counter():
    keys = {int(counter_key(*c)) for c in [("a",), ("b",), ("a", 1), ("a", 1, 2), ("a", 12), ("a", 2, 1)]}
    assert len(keys) == 6
