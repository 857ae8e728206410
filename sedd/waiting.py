"""Waits that may last: the user hears what is waited for, and Ctrl-C ends those of other threads, too."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass, field

SLOW_S = 10.0
"""After this many seconds the user hears what is still waited for."""


@dataclass(slots=True)
class _Listener:
    notify: Callable[[str], None]
    ended: threading.Event = field(default_factory=threading.Event)
    told_at: dict[str, float] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def tell(self, text: str) -> None:
        """Pass a text on, once where several threads wait for the same thing side by side."""
        with self.lock:
            now = time.monotonic()
            is_new = now - self.told_at.get(text, -SLOW_S) >= SLOW_S
            self.told_at[text] = now
        if is_new:
            self.notify(text)


_listener: ContextVar[_Listener | None] = ContextVar("listener", default=None)


@contextlib.contextmanager
def slow_waits_told(notify: Callable[[str], None]) -> Iterator[None]:
    """Inside, `notify` hears of everything that is waited for longer than `SLOW_S`, and how long at most."""
    before = _listener.set(_Listener(notify))
    try:
        yield
    finally:
        _listener.reset(before)


@contextlib.contextmanager
def told_if_slow(what: str | Callable[[], str], *, limit_s: float) -> Iterator[None]:
    """Tell what is waited for inside, such as "sbatch has not answered yet", if that lasts and somebody listens.

    A function is asked when it is told, in a thread of its own.
    """
    if (listener := _listener.get()) is None:
        yield
        return
    limit = f"{limit_s / 60:g} minutes" if limit_s >= 120 and limit_s % 60 == 0 else f"{limit_s:.0f} s"

    def tell() -> None:
        text = what if isinstance(what, str) else what()
        listener.tell(f"{text}; waiting for it, up to {limit}")

    timer = threading.Timer(SLOW_S, tell)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def pause(seconds: float) -> None:
    """Sleep between two looks. Raises: KeyboardInterrupt where the command's waits have been ended."""
    if (listener := _listener.get()) is None:
        time.sleep(seconds)
    elif listener.ended.wait(seconds):
        raise KeyboardInterrupt


def end_waits() -> None:
    """End the pauses of all threads of this command: after Ctrl-C, which Python gives to the main thread alone."""
    if (listener := _listener.get()) is not None:
        listener.ended.set()
