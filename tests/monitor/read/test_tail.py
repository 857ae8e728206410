"""Files that grow."""

from pathlib import Path
from typing import Any

from sedd.monitor.read.tail import EventTail, FileTail


def test_only_what_is_new_comes(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = FileTail(path)
    assert tail.read() == b""
    path.write_bytes(b"one")
    assert tail.read() == b"one"
    with open(path, "ab") as file:
        file.write(b"two")
    assert tail.read() == b"two"
    assert tail.read() == b""


def test_a_file_that_shrank_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"a long text")
    tail = FileTail(path)
    tail.read()
    path.write_bytes(b"new")
    assert tail.read() == b"new"


def test_an_event_half_written_comes_when_it_is_whole(farm: Any) -> None:
    run = farm.run().submitted(ago_s=1)
    content = run.folder.events.read_bytes()
    tail = EventTail(run.folder.events)
    run.folder.events.write_bytes(content[:30])
    assert tail.read() == ()
    run.folder.events.write_bytes(content)
    assert [e.event for e in tail.read()] == ["submitted"]
    assert tail.read() == ()
