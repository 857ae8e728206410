"""The table of `sedd usage`."""

import datetime as dt
import io

import pytest
from rich.console import Console

from sedd.experiments.usage_text import Row, parse_moment, usage_table
from sedd.rundir.usage import Usage


def test_a_duration_longer_than_the_calendar_is_before_all_runs() -> None:
    now = dt.datetime(2026, 11, 29, tzinfo=dt.UTC)
    assert parse_moment("30d", now=now) == dt.datetime(2026, 10, 30, tzinfo=dt.UTC)
    for text in ("999999d", "99999999999999d"):
        assert parse_moment(text, now=now) == dt.datetime.min.replace(tzinfo=dt.UTC)


def shown(*rows: Row, width: int = 80) -> list[str]:
    text = io.StringIO()
    Console(file=text, width=width).print(usage_table(rows, width=width))
    lines = text.getvalue().splitlines()
    assert all(len(line) <= width for line in lines)
    return lines


@pytest.mark.parametrize(
    ("seconds", "text"), [(36_000, "10.0"), (360, "0.1"), (108, "0.03"), (5, "0.0014"), (1, "<0.001")]
)
def test_short_times_are_told_and_not_rounded_away(seconds: float, text: str) -> None:
    titles, line, *_ = shown(Row(label="toy", runs=1, usage=Usage(run_s=seconds)))
    assert titles.split() == ["runs", "hours"]
    assert line.split() == ["toy", "1", text]


def test_a_column_in_which_nobody_used_anything_is_left_out() -> None:
    rows = [
        Row(label=name, runs=1, usage=Usage(gpu_s=gpu_s, run_s=7200))
        for name, gpu_s in (("a", 0), ("b", 3600))
    ]
    titles, first, second, total, *_ = shown(*rows)
    assert titles.split() == ["runs", "GPU-h", "hours"]
    assert (first.split(), second.split()) == (["a", "1", "0", "2.0"], ["b", "1", "1.0", "2.0"])
    assert total.split() == ["total", "2", "1.0", "4.0"]
