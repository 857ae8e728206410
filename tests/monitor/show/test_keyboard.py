"""Bytes of a terminal as keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sedd.monitor.show.keyboard import parse_keys


@pytest.mark.parametrize(
    ("content", "keys"),
    [
        (b"j", ["j"]),
        (b"\x1b[A", ["up"]),
        (b"\x1b[B\x1b[B", ["down", "down"]),
        (b"\x1b", ["escape"]),
        (b"ab\r", ["a", "b", "enter"]),
        (b"\x7f\x03", ["backspace", "ctrl-c"]),
        ("ä".encode(), ["ä"]),
        (b"\x1b[1;5D", []),
        (b"\xff", []),
    ],
)
def test_known_keys(content: bytes, keys: list[str]) -> None:
    assert parse_keys(content) == keys


@given(st.binary(max_size=64))
def test_no_bytes_are_an_error(content: bytes) -> None:
    assert all(parse_keys(content))
