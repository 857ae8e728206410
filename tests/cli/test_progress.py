import sys

import pytest

from sedd.cli import progress


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    return clock


def test_a_log_gets_a_line_now_and_then_with_rate_and_time_left(
    clock: Clock, capsys: pytest.CaptureFixture[str]
):
    mib = 1 << 20
    with progress.reading("reading", 1000 * mib) as advance:
        for _ in range(100):
            clock.now += 1
            advance(5 * mib)
        clock.now += 30
        advance(500 * mib)
        clock.now += 30
        advance(0)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "reading: 150 MiB of 1000 MiB, 5.0 MiB/s, 2m 50s left",
        "reading: 300 MiB of 1000 MiB, 5.0 MiB/s, 2m 20s left",
        "reading: 450 MiB of 1000 MiB, 5.0 MiB/s, 1m 50s left",
        "reading: 1000 MiB of 1000 MiB, 7.7 MiB/s, putting it together",
        "reading: 1000 MiB of 1000 MiB, 6.2 MiB/s, putting it together",
    ]


def test_what_comes_before_the_reading_is_not_counted_on(clock: Clock, capsys: pytest.CaptureFixture[str]):
    with progress.reading("reading", 1000) as advance:
        clock.now += progress.LOG_EVERY_S
        advance(0)
        for _ in range(3):
            clock.now += 10
            advance(100)
    assert capsys.readouterr().err.splitlines() == [
        "reading: not begun yet, getting ready",
        "reading: 300 B of 1000 B, 10 B/s, 1m 10s left",
    ]


def test_what_takes_a_moment_says_nothing_in_a_log(clock: Clock, capsys: pytest.CaptureFixture[str]):
    with progress.reading("reading", 1000) as advance:
        clock.now += progress.LOG_EVERY_S - 1
        advance(1000)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar_that_goes_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress.reading("reading", 1000) as advance:
        advance(500)
        advance(500)
    err = capsys.readouterr().err
    assert "reading" in err
    assert "1.0/1.0 kB" in err
    assert "putting it together" in err
