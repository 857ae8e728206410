"""Read single keys from a terminal."""

import os
import select
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager

_KEYS = {
    b"\x1b[A": "up",
    b"\x1bOA": "up",
    b"\x1b[B": "down",
    b"\x1bOB": "down",
    b"\x1b[5~": "pageup",
    b"\x1b[6~": "pagedown",
    b"\x1b": "escape",
    b"\r": "enter",
    b"\n": "enter",
    b"\x7f": "backspace",
    b"\x08": "backspace",
    b"\x03": "ctrl-c",
}


_SEQUENCE_S = 0.05
"""How long the rest of a key's sequence may take through a slow connection; longer, and it was Escape alone."""


@contextmanager
def raw_keys(handle: int) -> Iterator[None]:
    """The terminal gives every key at once and shows none; as before afterwards."""
    before = termios.tcgetattr(handle)
    try:
        tty.setcbreak(handle)
        yield
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)


def read_keys(handle: int, *, timeout_s: float) -> list[str]:
    """The keys pressed within `timeout_s`, as soon as there is one; `ctrl-c` when the terminal is gone."""
    ready, _, _ = select.select([handle], [], [], timeout_s)
    if not ready:
        return []
    content = os.read(handle, 1024)
    while content and not _is_whole(content) and select.select([handle], [], [], _SEQUENCE_S)[0]:
        more = os.read(handle, 1024)
        if not more:
            break
        content += more
    return parse_keys(content) if content else ["ctrl-c"]


def _is_whole(content: bytes) -> bool:
    """Whether no key's sequence is cut at the end."""
    begun = content[content.rfind(b"\x1b") :] if b"\x1b" in content else b""
    return not any(key.startswith(begun) and key != begun for key in _KEYS) if begun else True


def parse_keys(content: bytes) -> list[str]:
    """`up`, `enter`, … or the letter itself; sequences of keys that mean nothing here are passed over."""
    if content in _KEYS:
        return [_KEYS[content]]
    keys: list[str] = []
    while content:
        known = next((k for k in sorted(_KEYS, key=len, reverse=True) if content.startswith(k)), None)
        if known == b"\x1b" and len(content) > 1:
            return keys  # some other key's sequence
        if known is not None:
            keys.append(_KEYS[known])
            content = content[len(known) :]
            continue
        text = content.decode("utf-8", "ignore")
        if not text:
            return keys
        keys += [text[0]] if text[0].isprintable() else []
        content = text[1:].encode()
    return keys
