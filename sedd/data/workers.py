"""Sources built side by side: a process for each, and for gzip one that inflates and one for each of its parts."""

import fcntl
import multiprocessing
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any

from sedd.data.fasta import SpanReader
from sedd.data.parts import PartBuilder, PartOptions
from sedd.data.sources import Built, Progress, Source, build_source, source_blocks
from sedd.errors import DataError

_PIPE_BYTES = 1 << 20
_REPORT_BYTES = 1 << 22
_spawn = multiprocessing.get_context("spawn")  # a fork would inherit the progress bar's thread half-way


def build_sources(
    sources: list[Source], options: PartOptions, progress: Progress, *, workers: int
) -> list[Built]:
    """Build all sources with about `workers` processes. The result does not depend on how many there are.

    Raises:
        DataError: input that cannot be used, or a process that was killed.
    """
    waiting = list(enumerate(sources))[::-1]
    crew = _Crew(progress)
    try:
        while waiting or crew.at_work:
            while waiting and (not crew.at_work or crew.at_work + len(waiting[-1][1].folders) <= workers):
                _start(crew, *waiting.pop(), options)
            crew.listen()
    finally:
        crew.dismiss()
    return [_collect(crew.results, number, source) for number, source in enumerate(sources)]


@dataclass
class _Crew:
    """Processes at work, each with a pipe on which it tells its progress and in the end its result."""

    progress: Progress
    results: dict[tuple[int, str], Any] = field(default_factory=dict)
    _running: dict[Connection, tuple[int, str]] = field(default_factory=dict)
    _processes: list[SpawnProcess] = field(default_factory=list)

    @property
    def at_work(self) -> int:
        return len(self._running)

    def start(self, role: tuple[int, str], work: Callable[..., Any], *arguments: Any) -> None:
        """Run `work(*arguments, report)` in a process of its own."""
        ours, theirs = Pipe(duplex=False)
        process = _spawn.Process(target=_work, args=(theirs, os.getpid(), work, arguments))
        process.start()
        theirs.close()
        self._processes.append(process)
        self._running[ours] = role

    def listen(self) -> None:
        """Wait for news; raise what a process has raised."""
        for pipe in wait(list(self._running)):
            assert isinstance(pipe, Connection)
            try:
                kind, value = pipe.recv()
            except EOFError as e:
                raise DataError("a process of the build was killed", hint="was there memory enough?") from e
            if kind == "progress":
                self.progress(value)
            elif kind == "failed":
                raise value
            else:
                self.results[self._running.pop(pipe)] = value

    def dismiss(self) -> None:
        """End what still runs, and wait for it: afterwards nobody writes."""
        for process in self._processes:
            process.terminate()
        for process in self._processes:
            process.join()


def _work(pipe: Connection, parent: int, work: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all; the parent ends the others
    unreported = 0

    def report(count: int) -> None:
        nonlocal unreported
        unreported += count
        if unreported >= _REPORT_BYTES or not count:
            if os.getppid() != parent:
                os._exit(1)
            pipe.send(("progress", unreported))
            unreported = 0

    with suppress(BrokenPipeError):  # the parent is gone: nobody to tell
        try:
            result = work(*arguments, report)
            report(0)
            pipe.send(("done", result))
        except BrokenPipeError:
            raise
        except Exception as e:
            pipe.send(("failed", e))


def _start(crew: _Crew, number: int, source: Source, options: PartOptions) -> None:
    if len(source.folders) == 1:
        crew.start((number, "whole"), build_source, source, options)
        return
    inputs = []
    for folder in source.folders:
        blocks, ours = Pipe(duplex=False)
        with suppress(OSError, AttributeError):  # only quicker: Linux, and within the user's limit
            fcntl.fcntl(ours.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        crew.start((number, folder.name), _build_lane, blocks, folder, options, source.name)
        blocks.close()
        inputs.append(ours)
    crew.start((number, "deal"), _deal, source, inputs)
    for pipe in inputs:
        pipe.close()


def _deal(source: Source, lanes: list[Connection], report: Progress) -> str:
    """Read a source and deal its blocks to the lanes in turn; an empty one says that there are no more."""
    with SpanReader(source.span, report) as reader:
        for number, block in enumerate(source_blocks(source, reader)):
            lanes[number % len(lanes)].send_bytes(block)
        fingerprint = reader.fingerprint()
    for lane in lanes:
        lane.send_bytes(b"")
    return fingerprint


def _build_lane(blocks: Connection, folder: Path, options: PartOptions, source: str, report: Progress) -> Any:
    builder = PartBuilder(folder, options)
    while block := blocks.recv_bytes():
        builder.add(block, source=source)
    return builder.close()


def _collect(results: dict[tuple[int, str], Any], number: int, source: Source) -> Built:
    if len(source.folders) == 1:
        built: Built = results[number, "whole"]
        return built
    return Built([results[number, folder.name] for folder in source.folders], results[number, "deal"])
