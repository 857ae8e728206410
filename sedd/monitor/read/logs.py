"""Log files of a run: which is the newest, its last lines, and following it across attempts."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sedd.monitor.decide.poll import poll
from sedd.monitor.read.gather import Gatherer
from sedd.monitor.read.queue import BackgroundQueue
from sedd.monitor.read.tail import FileTail
from sedd.rundir.layout import RunDir

_NAME = re.compile(r"(?P<job>.+)_(?P<rank>\d+)(?:_log)?\.out")
_BLOCK = 65_536


def newest_log(run: RunDir, *, rank: int = 0) -> Path | None:
    """The log of `rank` that was written to last; None when there is none yet."""
    found = []
    for path in _files(run):
        match = _NAME.fullmatch(path.name)
        if match and int(match["rank"]) == rank:
            found.append(path)
    return max(found, key=_written, default=None)


def last_lines(path: Path, count: int) -> str:
    """The last `count` lines of a file, however large it is."""
    with open(path, "rb") as file:
        end = file.seek(0, 2)
        content = b""
        while end > 0 and content.count(b"\n") <= count:
            start = max(0, end - _BLOCK)
            file.seek(start)
            content = file.read(end - start) + content
            end = start
    lines = content.splitlines(keepends=True)
    return b"".join(lines[-count:] if count else []).decode("utf-8", "replace")


def follow_log(
    run: RunDir,
    *,
    rank: int,
    tail: int,
    notify: Callable[[str], None],
    gatherer: Gatherer | None = None,
    poll_s: float = 0.5,
) -> Iterator[str]:
    """The last `tail` lines of the newest log, then what is added to it or to the next one, until the run ends.

    A new log file (another job id after `sedd requeue`) is announced by its name. `notify` is called when
    SLURM does not answer; lines are not held up by it.
    """
    follower = _Follower(run, rank, tail)
    gatherer = gatherer or Gatherer(queue=BackgroundQueue())
    for _ in poll([run], every_s=poll_s, gatherer=gatherer, notify=notify):
        yield from follower.read()
    time.sleep(poll_s)  # the last words of a process may reach a shared file system after its event
    yield from follower.read()


class _Follower:
    def __init__(self, run: RunDir, rank: int, tail: int) -> None:
        self._run, self._rank, self._lines = run, rank, tail
        self._current: FileTail | None = None

    def read(self) -> Iterator[str]:
        newest = newest_log(self._run, rank=self._rank)
        if newest is None:
            return
        if self._current is None:
            yield last_lines(newest, self._lines)
            self._current = FileTail(newest, offset=newest.stat().st_size)
            return
        if new := self._current.read():
            yield new.decode("utf-8", "replace")
        if newest != self._current.path:
            yield f"==> {newest} <==\n"
            self._current = FileTail(newest)
            yield self._current.read().decode("utf-8", "replace")


def _files(run: RunDir) -> list[Path]:
    try:
        return list(run.logs.iterdir())
    except OSError:
        return []


def _written(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0
