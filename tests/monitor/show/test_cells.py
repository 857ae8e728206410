"""Cells keep their width whatever the number."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sedd.monitor.show.cells import (
    age_cell,
    bar,
    count_cell,
    duration_cell,
    loss_cell,
    point_text,
    short_point_text,
    steps_cell,
)


@given(st.floats(min_value=0, max_value=1e14))
def test_counts_fit_five_columns(value: float) -> None:
    assert len(count_cell(value)) <= 5


@given(st.integers(0, 10**9), st.integers(1, 10**9))
def test_steps_fit_eleven_columns(step: int, steps: int) -> None:
    assert len(steps_cell(step, steps)) <= 11


@given(st.floats(min_value=0, max_value=86_400.0 * 999))
def test_durations_fit(seconds: float) -> None:
    assert len(duration_cell(seconds)) <= 6
    assert len(age_cell(seconds)) <= 4


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_losses_fit_five_columns(value: float) -> None:
    assert len(loss_cell(value)) <= 5


@given(st.floats(min_value=-1, max_value=2), st.integers(1, 40))
def test_bars_have_their_width(ratio: float, width: int) -> None:
    assert len(bar(ratio, width=width)) == width


def test_a_bar_is_full_only_when_all_is_done() -> None:
    assert bar(1.0, width=5) == "█████"
    assert bar(0.999, width=5) != "█████"
    assert bar(0.0, width=5) == "·····"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (3600, "1h"),
        (35_999, "9h 59m"),
        (36_000, "10h"),
        (86_400, "1d"),
        (86_400 * 3 + 4 * 3600, "3d 4h"),
        (86_400 * 120, "120d"),
        (-5, "0s"),
    ],
)
def test_durations_as_people_read_them(seconds: float, text: str) -> None:
    assert duration_cell(seconds) == text


def test_what_is_not_known_is_blank() -> None:
    assert loss_cell(None) == count_cell(None) == duration_cell(None) == ""
    assert count_cell(math.nan) == ""


@pytest.mark.parametrize(
    ("width", "text"),
    [
        (40, "learning_rate=0.001 seed=12"),
        (20, "learn…=0.001 seed=12"),
        (18, "lea…=0.001 seed=12"),
        (17, "0.001 12"),
    ],
)
def test_where_a_point_is_too_long_its_keys_are_cut_and_its_values_stay(width: int, text: str) -> None:
    assert short_point_text({"training.learning_rate": 0.001, "seed": 12}, width) == text


def test_a_point_is_shown_as_its_spec_has_it() -> None:
    point = {"training.compile": True, "training.clip_norm": None, "data.lengths": [16, 512]}
    assert point_text(point) == "compile=true clip_norm=null lengths=[16, 512]"
    assert short_point_text(point, 24) == "true null [16, 512]"
