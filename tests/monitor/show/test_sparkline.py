"""One line of blocks."""

import math

from hypothesis import example, given
from hypothesis import strategies as st

from sedd.monitor.show.sparkline import BLOCKS, sparkline


@example([0.0, 2.3e-309], 2)
@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=200), st.integers(1, 40))
def test_never_wider_than_asked_and_both_extremes_are_drawn(values: list[float], width: int) -> None:
    line = sparkline(values, width=width)
    assert len(line) == min(width, len(values))
    assert BLOCKS[0] in line


def test_a_falling_loss_falls() -> None:
    assert sparkline([8, 7, 6, 5, 4, 3, 2, 1], width=8) == BLOCKS[::-1]


def test_what_is_no_number_is_left_out() -> None:
    assert sparkline([2.0, math.nan, 1.0, math.inf], width=8) == "█▁"
    assert sparkline([1.0], width=8) == ""
    assert sparkline([], width=8) == ""
