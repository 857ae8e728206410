import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sedd.cluster.jobs import (
    array_of,
    expand_job_id,
    parse_exit,
    parse_limit_s,
    parse_time,
)


@pytest.mark.parametrize(
    ("text", "jobs"),
    [
        ("123", ["123"]),
        ("123_4", ["123_4"]),
        ("123_[5-7]", ["123_5", "123_6", "123_7"]),
        ("123_[0,2-3%2]", ["123_0", "123_2", "123_3"]),
        ("123_[0-10:5]", ["123_0", "123_5", "123_10"]),
        ("123_[1-2,...]", ["123_1", "123_2"]),
    ],
)
def test_array_ranges_stand_for_their_tasks(text: str, jobs: list[str]) -> None:
    assert expand_job_id(text) == jobs


def test_array_of_a_task_and_of_a_job() -> None:
    assert array_of("120_3") == array_of("120_[3-5%1]") == array_of("120") == "120"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1-02:00:00", 93600),
        ("02:30:00", 9000),
        ("10:00", 600),
        ("0:30", 30),
        ("UNLIMITED", None),
        ("NONE", None),
    ],
)
def test_time_limits(text: str, seconds: int | None) -> None:
    assert parse_limit_s(text) == seconds


@given(st.integers(min_value=1, max_value=4 * 10**9))
def test_seconds_since_1970_are_that_moment(seconds: int) -> None:
    parsed = parse_time(str(seconds))
    assert parsed is not None
    assert parsed.timestamp() == seconds


def test_iso_times_are_in_the_zone_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        assert parse_time("2025-03-01T09:00:00") == datetime(2025, 3, 1, 0, 0, tzinfo=UTC)
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize("text", ["N/A", "Unknown", "None", "", "0", "Tomorr 10:00"])
def test_no_time_is_none(text: str) -> None:
    assert parse_time(text) is None


def test_exit_codes() -> None:
    assert parse_exit("1:0") == (1, 0)
    assert parse_exit("0:9") == (0, 9)
    assert parse_exit("") == (None, None)
