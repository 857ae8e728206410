"""Read what was added to growing files since the last time."""

import os
from pathlib import Path

from sedd.rundir.events import Event, parse_events


class FileTail:
    """The bytes added to a file since the last call; from its beginning when it was cut or replaced."""

    def __init__(self, path: Path, *, offset: int = 0) -> None:
        self.path = path
        self._offset = offset

    def read(self) -> bytes:
        """What is new; nothing when the file does not exist (yet) or cannot be read."""
        try:
            handle = os.open(self.path, os.O_RDONLY)
        except OSError:
            return b""
        try:
            size = os.fstat(handle).st_size
            start = self._offset if size >= self._offset else 0
            new = os.pread(handle, size - start, start)
            self._offset = start + len(new)
            return new
        finally:
            os.close(handle)


class EventTail:
    """Events added to an events.jsonl since the last call; a line that is being written comes with the next."""

    def __init__(self, path: Path) -> None:
        self._tail = FileTail(path)
        self._rest = b""

    def read(self) -> tuple[Event, ...]:
        whole, newline, self._rest = (self._rest + self._tail.read()).rpartition(b"\n")
        return parse_events(whole + newline)
