"""The log files of a run: find the newest, read its last lines, follow it across attempts."""

import codecs
import contextlib
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from sedd.errors import RunError
from sedd.monitor.decide.poll import poll
from sedd.monitor.read.gather import Gatherer
from sedd.monitor.read.queue import BackgroundQueue
from sedd.monitor.read.tail import FileTail
from sedd.rundir.events import read_events
from sedd.rundir.job_output import find_job_output
from sedd.rundir.layout import RunDir, read_manifest

_NAME = re.compile(r"(?P<job>.+)_(?P<rank>\d+)(?:_log)?\.out")
_OUTPUT = "_0_log.out"
_BLOCK = 65_536
_DECODER = codecs.getincrementaldecoder("utf-8")


def newest_log(run: RunDir, *, rank: int = 0) -> Path | None:
    """The log of `rank` that was written to last; None when there is none yet."""
    found = []
    for path in _files(run):
        match = _NAME.fullmatch(path.name)
        if match and int(match["rank"]) == rank:
            found.append(path)
    return max(found, key=_written, default=None)


def telling_log(run: RunDir, *, rank: int = 0) -> Path | None:
    """The newest log of `rank`; where the newest job has none of any rank, that job's own output."""
    log, output = newest_log(run, rank=rank), None
    with contextlib.suppress(RunError):
        output = _newest_output(run)
    if output is None:
        return log
    job = output.name.removesuffix(_OUTPUT)
    has_logs = any((match := _NAME.fullmatch(path.name)) and match["job"] == job for path in _files(run))
    return log if has_logs else output


def is_job_output(path: Path) -> bool:
    """Whether a log is a job's own output, not that of a rank."""
    return path.name.endswith(_OUTPUT)


def _newest_output(run: RunDir) -> Path | None:
    placed = [e for e in read_events(run.events) if e.event in ("submitted", "attempt_started")]
    job_id = str(placed[-1].get("job_id") or "") if placed else ""
    return find_job_output(run, job_id, sweep=read_manifest(run).get("sweep"))


def last_lines(path: Path, count: int) -> str:
    """The last `count` lines of a file, however large it is."""
    return _last_lines(path, count, path.stat().st_size).decode("utf-8", "replace")


def _last_lines(path: Path, count: int, end: int) -> bytes:
    """Those before the byte `end`, which a writer may have passed."""
    with open(path, "rb") as file:
        content = b""
        while end > 0 and content.count(b"\n") <= count:
            start = max(0, end - _BLOCK)
            file.seek(start)
            content = file.read(end - start) + content
            end = start
    lines = content.splitlines(keepends=True)
    return b"".join(lines[-count:] if count else [])


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
        self._decoder = _DECODER("replace")  # a letter may be half written

    def read(self) -> Iterator[str]:
        newest = newest_log(self._run, rank=self._rank)
        if newest is None:
            return
        if self._current is None:
            end = newest.stat().st_size
            self._current = FileTail(
                newest, offset=end
            )  # what is written while we show the first lines comes next
            yield self._decoder.decode(_last_lines(newest, self._lines, end))
            return
        if new := self._current.read():
            yield self._decoder.decode(new)
        if newest != self._current.path:
            yield f"{self._decoder.decode(b'', final=True)}==> {newest} <==\n"
            self._current = FileTail(newest)
            yield self._decoder.decode(self._current.read())


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
