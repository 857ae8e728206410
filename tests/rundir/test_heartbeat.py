"""heartbeat.json is always one whole beat."""

import dataclasses
import datetime as dt
import json
import subprocess
import sys
from pathlib import Path

import pytest

from sedd.launch.local_processes import wait_until
from sedd.rundir import heartbeat_writer
from sedd.rundir.heartbeat import Heartbeat, age_s, parse_heartbeat, read_heartbeat, write_heartbeat
from sedd.rundir.heartbeat_writer import write_heartbeats

BEAT = Heartbeat(
    t="2026-11-22T19:33:59+00:00",
    progress_t="2026-11-22T19:33:58+00:00",
    attempt=1,
    phase="training",
    step=5,
    steps=10,
    loss=2.5,
    host="node1",
    pid=42,
)


def test_a_beat_is_read_back(tmp_path: Path):
    write_heartbeat(tmp_path / "heartbeat.json", BEAT)
    assert read_heartbeat(tmp_path / "heartbeat.json") == BEAT


def test_before_the_first_beat_there_is_none(tmp_path: Path):
    assert read_heartbeat(tmp_path / "heartbeat.json") is None


def test_age_counts_from_when_it_was_written():
    assert age_s(BEAT, now=dt.datetime(2026, 11, 22, 19, 34, 59, tzinfo=dt.UTC)) == 60


def test_fields_of_a_newer_version_are_ignored():
    content = json.dumps(dataclasses.asdict(BEAT) | {"mood": "good"}).encode()
    assert parse_heartbeat(content) == BEAT


def test_a_beat_without_a_time_zone_is_none():
    assert (
        parse_heartbeat(json.dumps(dataclasses.asdict(BEAT) | {"t": "2026-11-22T19:33:59"}).encode()) is None
    )


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"null", b"{}", b"\xff", b'{"t": 5}', b'{"t": "2026-11-22T19:33:59+00:00"}']
)
def test_what_is_no_beat_is_none(content: bytes):
    assert parse_heartbeat(content) is None


WRITER = """
import dataclasses, sys
from pathlib import Path
from sedd.rundir.heartbeat import parse_heartbeat, write_heartbeat
path = Path(sys.argv[1])
beat = parse_heartbeat(path.read_bytes())
for step in range(800):
    write_heartbeat(path, dataclasses.replace(beat, step=step, gpu="x" * (step * 37 % 3000)))
"""


def test_a_reader_never_sees_half_a_beat(tmp_path: Path):
    path = tmp_path / "heartbeat.json"
    write_heartbeat(path, BEAT)
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], cwd=Path(__file__).parents[2]) as writer:
        seen = set()
        while writer.poll() is None:
            beat = parse_heartbeat(path.read_bytes())
            assert beat is not None
            seen.add(beat.step)
    assert writer.returncode == 0
    assert len(seen) > 10, "the reader looked while it was being written"
    assert [p.name for p in tmp_path.iterdir()] == ["heartbeat.json"]


def test_that_the_start_is_over_is_written_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rows of the first steps would contradict a heartbeat that still starts."""
    monkeypatch.setattr(heartbeat_writer, "INTERVAL_S", 600.0)
    path = tmp_path / "heartbeat.json"
    with write_heartbeats(path, attempt=1, steps=10) as beating:
        beating.update(phase="training", step=0)
        assert wait_until(lambda: phase_in(path) == "training", timeout_s=3)


def phase_in(path: Path) -> str | None:
    beat = read_heartbeat(path)
    return beat.phase if beat else None
