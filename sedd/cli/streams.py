"""What stdout and stderr may carry: bars and curves in ASCII where the terminal knows nothing else."""

import codecs
import io
import os
import re
import sys
import unicodedata
from collections.abc import Mapping
from typing import TYPE_CHECKING

from sedd.errors import cannot_write

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_ASCII = (
    str.maketrans("█▉▊▋▌▍▎▏", "########")
    | str.maketrans("▁▂▃▄▅▆▇", "_..--==")
    | str.maketrans("·…┤├└┌┐┘│┃─━═╇┼╭╮╰╯", ".~|+++++||---++++++")
    | str.maketrans("×–—µ“”‘’•✓", "x--u\"\"''*+")
)
"""Characters of tables, bars and curves, each by one of ASCII, so that columns stay columns."""
_PAIRS = {"→": "->", "±": "+-", "≥": ">=", "≤": "<="}
"""Signs that no one character of ASCII stands for. They take the place of a space before a number: columns stay."""
_PAIRED = re.compile(f"([{''.join(_PAIRS)}])( (?=[0-9?]))?")
CLOSED_PIPE = 141
"""Exit code when the reader of stdout has gone, as `head` does: 128 + SIGPIPE, as a shell has it of other commands."""
_C_LOCALES = ("C", "POSIX")
_COERCED = ("C.UTF-8", "C.utf8", "UTF-8")
"""What Python itself puts into LC_CTYPE where the locale is C."""


def prepare_streams(environment: Mapping[str, str] = os.environ) -> None:
    """Letters that the terminal lacks become ASCII or `?`; what is written to a closed output is gone."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 # as long as the process
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    codecs.register_error("sedd", _replaced)
    if isinstance(plain := sys.stdout, io.TextIOWrapper) and plain is sys.__stdout__:
        named = io.BufferedWriter(_NamedFile(plain.fileno(), "wb", closefd=False))
        at_once = plain.line_buffering or plain.write_through  # a terminal, or PYTHONUNBUFFERED
        sys.stdout = io.TextIOWrapper(named, plain.encoding, line_buffering=at_once)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = "ascii" if is_ascii(environment) else stream.encoding
            stream.reconfigure(encoding=encoding, errors="sedd")


class _NamedFile(io.FileIO):
    """Stdout, whose errors name it: those of write(2) name no file."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except OSError as e:
            # What waits in the buffer would fail once more when Python ends.
            os.dup2(os.open(os.devnull, os.O_WRONLY), self.fileno())
            if isinstance(e, BrokenPipeError):
                raise SystemExit(CLOSED_PIPE) from e  # the reader has seen enough
            raise cannot_write("standard output", e) from e


def is_ascii(environment: Mapping[str, str]) -> bool:
    """Whether the user's locale is C: Python itself would write UTF-8 all the same."""
    if whole := environment.get("LC_ALL"):
        return whole in _C_LOCALES
    language, letters = environment.get("LANG"), environment.get("LC_CTYPE")
    if letters and letters not in _COERCED:
        return letters in _C_LOCALES
    return language in _C_LOCALES


def as_ascii(text: str) -> str:
    """The text in ASCII, as long as it was but for `->` and the like: accents go, what has no likeness is `?`."""
    text = _PAIRED.sub(lambda found: _PAIRS[found[1]], text)
    return "".join(c if c.isascii() else _letter(c) for c in text)


def _letter(c: str) -> str:
    if "\u2801" <= c <= "\u28ff":  # a curve's dots
        return "*" if bin(ord(c) - 0x2800).count("1") > 2 else "."
    plain = _ASCII.get(ord(c), unicodedata.normalize("NFKD", c)[0])
    letter = chr(plain) if isinstance(plain, int) else plain
    return letter if letter.isascii() else "?"


def _replaced(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    text, end = error.object, error.end
    if found := _PAIRED.match(text, end - 1):
        end = found.end()
        return as_ascii(text[error.start : end - len(found[0])]) + _PAIRS[found[1]], end
    return as_ascii(text[error.start : end]), end
