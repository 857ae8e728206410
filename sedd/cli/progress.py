"""Show the progress of a long read: a bar on a terminal, a line now and then in a log."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sedd.cli.console import err
from sedd.units import format_bytes, format_duration

LOG_EVERY_S = 30.0
"""Between two lines in a log: what takes less time says nothing there."""

_LAST = "putting it together"


@contextmanager
def reading(what: str, total_bytes: int) -> Iterator[Callable[[int], None]]:
    """A function to call with the bytes read since its last call; what it shows goes to stderr."""
    if not err().is_terminal:
        yield _Lines(what, total_bytes, now=time.monotonic)
        return
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.progress import TransferSpeedColumn as Rate

    columns: list[Any] = [
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        Rate(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=err(), transient=True) as bar:
        task = bar.add_task(what, total=total_bytes)

        def advance(count: int) -> None:
            bar.update(task, advance=count)
            if bar.tasks[0].finished:
                bar.update(task, description=_LAST)

        yield advance


class _Lines:
    """`reading: 9.1 of 25.1 GiB, 512 MiB/s, 32s left`."""

    def __init__(self, what: str, total_bytes: int, *, now: Callable[[], float]) -> None:
        self._what, self._total_bytes, self._now = what, total_bytes, now
        self._began = self._shown = now()
        self._done = 0

    def __call__(self, count: int) -> None:
        now = self._now()
        if not self._done and not count:
            self._began = now  # what came before says nothing about the rate
        self._done += count
        if now - self._shown < LOG_EVERY_S:
            return
        self._shown = now
        if not self._done:
            err().print(f"{self._what}: not begun yet, getting ready")
            return
        rate = self._done / max(now - self._began, 1e-3)
        left_s = (self._total_bytes - self._done) / max(rate, 1.0)
        done, total = format_bytes(self._done), format_bytes(self._total_bytes)
        left = f"{format_duration(left_s)} left" if left_s >= 1 else _LAST
        err().print(f"{self._what}: {done} of {total}, {format_bytes(rate)}/s, {left}")
