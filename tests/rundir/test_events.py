"""events.jsonl: nothing said is ever lost, whoever was killed while saying it."""

import datetime as dt
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sedd.errors import RunError
from sedd.rundir import events
from sedd.rundir.events import (
    EVENTS,
    append_event,
    damaged_lines,
    parse_events,
    read_events,
    require_undamaged,
)

PROJECT = Path(__file__).parents[2]
NOW = dt.datetime(2026, 11, 22, 19, 33, 59, 123456, tzinfo=dt.UTC)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "events.jsonl"


def append(path: Path, event: str = "checkpoint", attempt: int = 1, **fields: object) -> None:
    append_event(path, event, attempt=attempt, now=NOW, **fields)


@pytest.mark.parametrize("event", EVENTS)
def test_what_was_said_is_read_back(path: Path, event: str):
    append(path, event, attempt=2, step=10, error="line\nbreak", host="nœud", nested={"a": [1]})
    (read,) = read_events(path)
    assert (read.event, read.attempt) == (event, 2)
    assert read.t == NOW.replace(microsecond=123000)
    assert read.fields == {"step": 10, "error": "line\nbreak", "host": "nœud", "nested": {"a": [1]}}


def test_a_line_is_json_with_time_event_and_attempt_first(path: Path):
    append(path, step=1)
    (line,) = path.read_text().splitlines()
    assert list(json.loads(line)) == ["t", "event", "attempt", "step"]
    assert line.startswith('{"t": "2026-11-22T19:33:59.123+00:00"')


def test_times_are_kept_in_utc(path: Path):
    append_event(path, "submitted", attempt=0, now=NOW.astimezone(dt.timezone(dt.timedelta(hours=9))))
    assert '"2026-11-22T19:33:59.123+00:00"' in path.read_text()


def test_before_the_first_event_there_are_none(path: Path):
    assert read_events(path) == ()


def test_an_unknown_event_is_a_mistake_of_ours(path: Path):
    with pytest.raises(ValueError, match="unknown event"):
        append(path, "finished")
    assert not path.exists()


def test_every_event_is_explained_in_the_readme():
    readme = Path(events.__file__).with_name("README.md").read_text()
    assert [event for event in EVENTS if f"| `{event}` |" not in readme] == []


@given(cut=st.integers(min_value=1, max_value=200))
def test_a_torn_last_line_never_swallows_the_next_event(tmp_path_factory: pytest.TempPathFactory, cut: int):
    path = tmp_path_factory.mktemp("run") / "events.jsonl"
    append(path, step=1)
    whole = path.read_bytes()
    append(path, step=2, error="x" * 100)
    torn = path.read_bytes()
    path.write_bytes(torn[: max(len(whole), len(torn) - cut)])
    append(path, step=3)
    steps = [e.get("step") for e in read_events(path)]
    assert steps in ([1, 3], [1, 2, 3])
    if cut > 1 and len(torn) - cut > len(whole):
        assert steps == [1, 3]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"7",
        b'"text"',
        b"\xff\xfe",
        b"{}",
        b'{"t": 5, "event": "checkpoint", "attempt": 1}',
        b'{"t": "yesterday", "event": "checkpoint", "attempt": 1}',
        b'{"t": "2026-11-22T19:33:59+00:00", "event": "checkpoint"}',
        b'{"t": "2026-11-22T19:33:59+00:00", "event": "checkpoint", "attempt": null}',
        b'{"t": "2026-11-22T19:33:59", "event": "checkpoint", "attempt": 1}',
    ],
)
def test_foreign_lines_are_passed_over(path: Path, line: bytes):
    append(path, step=1)
    path.write_bytes(path.read_bytes() + line + b"\n")
    append(path, step=2)
    assert [e.get("step") for e in read_events(path)] == [1, 2]


def test_an_event_of_a_newer_version_is_read(path: Path):
    path.write_text('{"t": "2026-11-22T19:33:59+00:00", "event": "levitated", "attempt": 1, "height_m": 2}\n')
    assert parse_events(path.read_bytes())[0].event == "levitated"


WRITER = """
import datetime as dt, sys
from pathlib import Path
from sedd.rundir.events import append_event
for number in range(int(sys.argv[3])):
    append_event(Path(sys.argv[1]), "checkpoint", attempt=int(sys.argv[2]), now=dt.datetime.now(dt.UTC),
                 step=number, reason="x" * (number * 37 % 5000))
"""


def test_writers_of_several_processes_lose_nothing(path: Path):
    writers, each = 4, 60
    running = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(path), str(writer), str(each)])
        for writer in range(writers)
    ]
    assert [process.wait(timeout=180) for process in running] == [0] * writers
    seen = [(e.attempt, e.get("step")) for e in read_events(path)]
    assert sorted(seen) == [(writer, step) for writer in range(writers) for step in range(each)]
    for writer in range(writers):
        assert [step for by, step in seen if by == writer] == list(range(each)), "in the order they were said"


def test_a_file_that_cannot_be_written_is_a_users_error(tmp_path: Path):
    with pytest.raises(RunError, match=r"cannot write .*: Is a directory"):
        append(tmp_path)
    with pytest.raises(RunError, match=r"cannot write .*: No such file"):
        append(tmp_path / "gone" / "events.jsonl")
    with pytest.raises(RunError, match=r"cannot read .*: Is a directory"):
        read_events(tmp_path)


def test_a_full_disk_is_told_and_the_next_event_is_still_whole(path: Path, monkeypatch: pytest.MonkeyPatch):
    append(path, step=1)
    write = os.write
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda handle, data: write(handle, data[:20]))
        with pytest.raises(RunError, match="No space left"):
            append(path, step=2)
    append(path, step=3)
    assert [e.get("step") for e in read_events(path)] == [1, 3]


def test_a_damaged_line_is_named_where_something_is_concluded_from_a_missing_event(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    require_undamaged(path)
    append_event(path, "submitted", attempt=0, now=dt.datetime(2026, 11, 22, tzinfo=dt.UTC))
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    require_undamaged(path)  # it is being written
    path.write_bytes(whole + whole[:20] + b"\n" + whole)
    assert damaged_lines(path.read_bytes()) == (2,)
    with pytest.raises(RunError, match=r"events\.jsonl:2: damaged line"):
        require_undamaged(path)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (errno.EACCES, "permission denied"),
        (errno.EROFS, "read-only file system"),
        (errno.ENOSPC, None),
        (errno.EDQUOT, None),
        (errno.ENOENT, None),
    ],
)
def test_what_no_waiting_mends_is_told_from_a_full_disk(
    path: Path, monkeypatch: pytest.MonkeyPatch, code: int, expected: str | None
):
    append(path)
    assert events.refusal(path) is None

    def refuse(*_: object) -> int:
        raise OSError(code, "in some words")

    monkeypatch.setattr(events.os, "open", refuse)
    assert events.refusal(path) == expected
