"""The callback by which long work reports progress and may be stopped."""

from collections.abc import Callable

Progress = Callable[[int], None]
"""Called with the bytes of input that have been read since the last call, and with 0 now and then in work that reads
none: it may raise, to end the work."""


def ignore_progress(read_bytes: int) -> None:
    """Progress that nobody watches."""
