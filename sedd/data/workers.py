"""Build sources in several processes: this one and helpers take spans in turns; one process inflates gzip."""

import gc
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, Pipe, wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, NoReturn

from sedd.data.fasta import SpanReader
from sedd.data.parts import PartBuilder, PartOptions
from sedd.data.progress import Progress
from sedd.data.shared_memory import Receiver, Sender
from sedd.data.sources import Built, Source, build_source, source_blocks
from sedd.errors import RunError

_REPORT_BYTES = 1 << 22
_PATIENCE_S = 1.0
_BEHIND_THE_DEALER = 5  # niceness: on few cores the process that inflates feeds all, so it goes first
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR2)
_DEAL, _WHOLE = "deal", "whole"
_spawn = multiprocessing.get_context("spawn")  # a fork would inherit the progress bar's thread half-way
Work = tuple[Callable[..., Any], tuple[Any, ...]]
"""A function and its arguments, to which the helper adds its own `report`."""
Role = tuple[int, str]
"""Number of a source, and what is done of it: the name of a part's folder, or the dealing of its blocks."""


def build_sources(
    sources: list[Source], options: PartOptions, progress: Progress, *, workers: int
) -> list[Built]:
    """Build all sources with about `workers` processes. The result does not depend on how many there are.

    Raises:
        DataError: input that cannot be used. RunError: a process was killed.
    """
    crew = _Crew(sources, options, progress, helpers=workers - 1)
    try:
        crew.work()
        return [crew.built(number) for number in range(len(sources))]
    finally:
        crew.dismiss()


class _Crew:
    """This process and its helpers. Each helper has a pipe on which it gets work, tells its progress and its result."""

    def __init__(
        self, sources: list[Source], options: PartOptions, progress: Progress, *, helpers: int
    ) -> None:
        self._sources, self._options, self._progress = sources, options, progress
        self._waiting = deque(enumerate(sources))
        self._most = helpers
        self._results: dict[Role, Any] = {}
        self._processes: list[SpawnProcess] = []
        self._idle: list[Connection] = []
        self._busy: dict[Connection, Role] = {}
        self._senders: list[Sender] = []
        self._unheard = 0

    def work(self) -> None:
        """Build everything."""
        while self._waiting:
            self._hand_out()
            self._do(*self._waiting.popleft())
        while self._busy:
            self._listen(None)

    def built(self, number: int) -> Built:
        """What was built of a source."""
        if (whole := self._results.get((number, _WHOLE))) is not None:
            built: Built = whole
            return built
        parts = [self._results[number, folder.name] for folder in self._sources[number].folders]
        return Built(parts, self._results[number, _DEAL])

    def dismiss(self) -> None:
        """End what still runs, and wait for it: afterwards nobody writes."""
        for process in self._processes:
            process.kill()  # they hear no milder signal
        for process in self._processes:
            process.join()
        for sender in self._senders:
            sender.close()

    def _hand_out(self) -> None:
        """Give the next sources to helpers, whole, as long as there are enough of both: one stays for this process."""
        while len(self._waiting) > 1 and (self._idle or len(self._processes) < self._most):
            number, source = self._waiting.popleft()
            self._give((number, _WHOLE), build_source, source, self._options)

    def _do(self, number: int, source: Source) -> None:
        """Build a source in this process, or inflate and deal it."""
        if len(source.folders) == 1:
            self._results[number, _WHOLE] = build_source(source, self._options, self._report)
            return
        lanes = self._start_lanes(number, source)
        try:
            self._results[number, _DEAL] = _deal(source, lanes, self._report)
        except BrokenPipeError:  # a lane has ended early: it says why
            while self._busy:
                self._listen(None)
            raise

    def _start_lanes(self, number: int, source: Source) -> list[Sender]:
        """Helpers that build a part each of the blocks that they are sent."""
        lanes = []
        for folder in source.folders:
            sender = Sender()
            self._senders.append(sender)
            work = (_build_lane, (sender.receiver, folder, self._options, source.name))
            self._hire((number, folder.name), work)  # ends of pipes can be handed to a new process only
            sender.receiver.pipe.close()
            lanes.append(sender)
        return lanes

    def _give(self, role: Role, work: Callable[..., Any], *arguments: Any) -> None:
        """Let a helper call `work(*arguments, report)`."""
        if not self._idle:
            self._hire(role, (work, arguments))
            return
        pipe = self._idle.pop()
        pipe.send((work, arguments))
        self._busy[pipe] = role

    def _hire(self, role: Role, first: Work) -> None:
        ours, theirs = Pipe()
        process = _spawn.Process(target=_serve, args=(theirs, os.getpid(), first))
        with _signals_held():
            process.start()
        theirs.close()
        self._processes.append(process)
        self._busy[ours] = role

    def _report(self, read_bytes: int) -> None:
        """Progress of this process; now and then it looks after its helpers."""
        self._progress(read_bytes)
        self._unheard += read_bytes
        if self._unheard >= _REPORT_BYTES:
            self._unheard = 0
            while self._busy and self._listen(0):
                pass
            self._hand_out()

    def _listen(self, timeout_s: float | None) -> bool:
        """Wait for news and take it; whether there was any. Raises what a helper has raised."""
        heard = wait(list(self._busy), timeout_s)
        for pipe in heard:
            assert isinstance(pipe, Connection)
            try:
                kind, value = pipe.recv()
            except (EOFError, ConnectionResetError):
                del self._busy[pipe]
                self._lose_one()
            if kind == "progress":
                self._progress(value)
            elif kind == "failed":
                raise value
            else:
                self._results[self._busy.pop(pipe)] = value
                self._idle.append(pipe)
        return bool(heard)

    def _lose_one(self) -> NoReturn:
        """Raise what another helper says: one that deals ends without a word when a lane has failed."""
        while self._busy and self._listen(_PATIENCE_S):
            pass
        raise RunError("a process of the build was killed", hint="was there memory enough?")


@contextmanager
def _signals_held() -> Iterator[None]:
    """What starts now never gets a stop signal: they reach all of a terminal's or job's processes; we decide for them.

    To ignore them is too late once the helper runs: it takes a while to import, and would die with a traceback.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        resource_tracker.ensure_running()  # now, since it unblocks some of them
        signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection, parent: int, first: Work) -> None:
    """A helper's life: do what is asked, tell what came of it, until the other end of the pipe is closed."""
    gc.disable()  # no work makes cycles; to look for them among its many slices takes a twentieth of the time
    unreported = 0

    def report(read_bytes: int) -> None:
        nonlocal unreported
        unreported += read_bytes
        if unreported >= _REPORT_BYTES or not read_bytes:
            if os.getppid() != parent:
                os._exit(1)
            pipe.send(("progress", unreported))
            unreported = 0

    with suppress(BrokenPipeError, EOFError):  # the parent is gone: nobody to tell
        asked = first
        while True:
            work, arguments = asked
            pipe.send(_answer(work, arguments, report))
            asked = pipe.recv()


def _answer(work: Callable[..., Any], arguments: tuple[Any, ...], report: Progress) -> tuple[str, Any]:
    try:
        result = work(*arguments, report)
        report(0)
        return "done", result
    except BrokenPipeError:
        raise
    except Exception as e:
        return "failed", e


def _deal(source: Source, lanes: list[Sender], report: Progress) -> str:
    """Read a source and deal its blocks to the lanes in turn."""
    _keep_freed_memory()
    with SpanReader(source.span, report) as reader:
        for number, halves in enumerate(source_blocks(source, reader)):
            lanes[number % len(lanes)].send(*halves)
        fingerprint = reader.fingerprint()
    for lane in lanes:
        lane.end()
    return fingerprint


def _keep_freed_memory() -> None:
    """From here on glibc keeps what is freed, since something so large has been.

    Else it gives each block's memory back to the system and takes it anew, page by page: an eighth of a dealer's time.
    """
    bytearray(1 << 24)


def _build_lane(receiver: Receiver, folder: Path, options: PartOptions, source: str, report: Progress) -> Any:
    os.nice(_BEHIND_THE_DEALER)
    builder = PartBuilder(folder, options)
    with receiver.blocks() as blocks:  # closed before a failure is told: who deals must not wait for us
        for block in blocks:
            builder.add(block, source=source)
    return builder.close()
