"""Curves drawn in text."""

import math

from hypothesis import example, given
from hypothesis import strategies as st

from sedd.monitor.show.plot import plot

POINTS = st.lists(st.tuples(st.integers(0, 10**7), st.floats(-1e5, 1e5)), min_size=2, max_size=300)


@given(POINTS, st.integers(20, 160), st.integers(2, 12))
@example([(0, 0.0), (1, 2.2e-311)], 20, 2)
@example([(0, -1.2e-107), (1, -1.2345e-107), (2, 1.2e-107)], 30, 2)
@example([(0, -1.2345e-30), (1, 1e5)], 30, 2)
def test_never_wider_or_higher_than_asked(points: list[tuple[int, float]], width: int, height: int) -> None:
    lines = plot(sorted(points), width=width, height=height)
    assert len(lines) in (0, height + 1)
    assert all(len(line) <= max(width, 30) for line in lines)


def test_a_falling_line_falls_from_corner_to_corner() -> None:
    *body, axis = plot([(k, 100 - k) for k in range(100)], width=30, height=4)
    assert axis == "         └0            step 99"
    starts = [len(line[10:]) - len(line[10:].lstrip()) for line in body]
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    assert len(body[-1]) == 30


def test_steep_falls_are_joined() -> None:
    lines = plot([(0, 1.0), (10, 1.0), (11, 0.0), (20, 0.0)], width=40, height=4)
    assert all(line[10:].strip() for line in lines[:4])


def test_too_little_to_draw_is_nothing() -> None:
    assert plot([], width=40, height=4) == []
    assert plot([(1, 2.0)], width=40, height=4) == []
    assert plot([(1, math.nan), (2, math.inf), (3, 1.0)], width=40, height=4) == []


def test_a_flat_curve_is_a_line_with_one_label() -> None:
    lines = plot([(0, 2.0), (10, 2.0)], width=40, height=3)
    assert sum("2 ┤" in line for line in lines) == 1


def test_a_spike_does_not_flatten_the_curve() -> None:
    calm = [(k, 3.0 - k / 100) for k in range(100)]
    spiky = [(k, 50.0 if k == 60 else y) for k, y in calm]
    *body, _ = plot(spiky, width=60, height=4)
    assert "≥" in body[0]
    assert len({len(line) for line in body}) > 1, "the fall is still seen in every line"
    assert "≥" not in "".join(plot(calm, width=60, height=4))


def test_spikes_of_an_otherwise_flat_curve_are_drawn_whole() -> None:
    *body, _ = plot([(k, 5.0 if k == 60 else 1.0) for k in range(100)], width=60, height=4)
    assert body[0].lstrip().startswith("5 ┤")
