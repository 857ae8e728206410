"""Quantities: what users write, and what people read."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sedd.units import (
    counted,
    decimal_comma_hint,
    exact_bytes,
    exact_duration,
    format_bytes,
    format_count,
    format_duration,
    format_share,
    parse_bytes,
    parse_duration_s,
)

DAY_S = 86400


@given(st.integers(min_value=1, max_value=10**9))
def test_a_written_duration_is_read_back_exactly(seconds: int):
    assert parse_duration_s(exact_duration(seconds)) == seconds


@given(st.integers(min_value=0, max_value=10**18))
def test_a_written_amount_of_memory_is_read_back_exactly(count: int):
    assert parse_bytes(exact_bytes(count)) == count


@given(st.integers(0, 99), st.integers(0, 23), st.integers(0, 59), st.integers(0, 59))
def test_slurm_clock_and_parts_agree(days: int, hours: int, minutes: int, seconds: int):
    if days + hours + minutes + seconds:
        clock = parse_duration_s(f"{days}-{hours:02}:{minutes:02}:{seconds:02}")
        assert clock == parse_duration_s(f"{days}d {hours}h {minutes}m {seconds}s")


@given(st.integers(min_value=0, max_value=10**9))
def test_a_shown_duration_is_the_exact_one_cut_to_two_units(seconds: int):
    shown = format_duration(seconds)
    kept = parse_duration_s(shown) if seconds else 0
    assert len(shown.split()) <= 2
    assert kept <= seconds
    assert seconds - kept < max(60, seconds / 24), "what is cut off is less than one of the second unit"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90),
        ("15m", 900),
        ("15min", 900),
        ("24h", DAY_S),
        ("1d12h", DAY_S + DAY_S // 2),
        ("1.5h", 5400),
        ("1.1h", 3960),
        ("1d 2h", DAY_S + 7200),
        ("24:00:00", DAY_S),
        ("1-00:00:00", DAY_S),
        (" 2h ", 7200),
    ],
)
def test_durations(text: str, seconds: int):
    assert parse_duration_s(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "24", "h", "24 hours", "1h30", "-1h", "0s", "0:00:00", "0-00:00:00", "1:60:00", "0.5s", "1H", "x1h"],
)
def test_what_is_no_duration_is_refused(text: str):
    with pytest.raises(ValueError, match=r"duration|whole number of seconds"):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("text", "count"),
    [("32GiB", 32 * 2**30), ("500 MB", 500 * 10**6), ("1.5TiB", 3 * 2**39), ("17B", 17), ("0B", 0)],
)
def test_amounts_of_memory(text: str, count: int):
    assert parse_bytes(text) == count


@pytest.mark.parametrize("text", ["", "32", "GiB", "32G", "32gib", "-1GiB", "1 GiB of it"])
def test_what_is_no_amount_of_memory_is_refused(text: str):
    with pytest.raises(ValueError, match="write it like 32GiB"):
        parse_bytes(text)


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (format_duration(0), "0s"),
        (format_duration(59.9), "59s"),
        (format_duration(3600), "1h"),
        (format_duration(93784), "1d 2h"),
        (format_duration(-90), "-1m 30s"),
        (format_bytes(12), "12 B"),
        (format_bytes(3.2 * 2**30), "3.2 GiB"),
        (format_bytes(412 * 2**20), "412 MiB"),
        (format_count(23_930_880), "23.9 M"),
        (format_count(17_400), "17.4 k"),
        (format_count(612), "612"),
        (format_count(999.6), "1 k"),
        (format_count(999_600), "1 M"),
        (counted(1, "protein"), "1 protein"),
        (counted(0, "protein"), "0 proteins"),
        (counted(4996, "mutant"), "4,996 mutants"),
        (format_share(27, 100), "27%"),
        (format_share(3741, 3742), "all but 1"),
        (format_share(2_000_000, 2_001_000), "all but 1,000"),
        (format_share(3742, 3742), "100%"),
        (format_share(1, 3742), "<1%"),
        (format_share(0, 3742), "0%"),
        (decimal_comma_hint("1,5"), "write 1,5 with a point: 1.5"),
        (decimal_comma_hint(" -0,25e-3 "), "write -0,25e-3 with a point: -0.25e-3"),
        (decimal_comma_hint("1,5,2"), None),
        (decimal_comma_hint("A2,G"), None),
    ],
)
def test_shown(shown: str | None, expected: str | None):
    assert shown == expected


@pytest.mark.parametrize("noun", ["protein", "mutant", "line", "point", "stage", "node", "core", "redesign"])
def test_messages_count_in_the_singular_and_the_plural(noun: str):
    """A number before a plural goes through `counted`; behind "of" or with a limit it may stand as it is."""
    bare = re.compile(rf"(?<!of )\{{(?:len\([^{{}}]*\)|count|total)(?::,)?\}} {noun}s\b")
    found = [
        f"{path.name}:{number}"
        for path in (Path(__file__).parents[1] / "sedd").rglob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if bare.search(line)
    ]
    assert found == []
