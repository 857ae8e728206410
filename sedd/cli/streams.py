"""What stdout and stderr may carry: bars and curves in ASCII where the locale is C; names stay as they are."""

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
"""Signs that no one character of ASCII stands for. Two take the place of the sign and a space beside it."""
_ALONE = {"→": ">", "±": "~", "≥": ">", "≤": "<"}
"""The same where no space is beside them, as in what a user wrote: they say less, and columns stay columns."""
_SIGN = f"[{''.join(_PAIRS)}]"
_PAIRED = re.compile(f"(?<= ) {_SIGN}| {_SIGN}(?! )|{_SIGN} ?")
"""A sign with the space that it takes: of an indent, else the one behind it, else the one before."""
CLOSED_PIPE = 141
"""Exit code when the reader of stdout has gone, as `head` does: 128 + SIGPIPE, as a shell has it of other commands."""
_C_LOCALES = ("C", "POSIX")
_COERCED = ("C.UTF-8", "C.utf8", "UTF-8")
"""What Python itself puts into LC_CTYPE where the locale is C."""


def prepare_streams(environment: Mapping[str, str] = os.environ) -> None:
    """In locale C our signs become ASCII; what an encoding lacks does, or `?`; what goes to a closed output is gone."""
    sys.stdout = sys.stdout or open(os.devnull, "w")  # noqa: SIM115 # as long as the process
    sys.stderr = sys.stderr or open(os.devnull, "w")  # noqa: SIM115
    codecs.register_error("sedd", _replaced)
    if isinstance(plain := sys.stdout, io.TextIOWrapper) and plain is sys.__stdout__:
        named = io.BufferedWriter(_NamedFile(plain.fileno(), "wb", closefd=False))
        at_once = plain.line_buffering or plain.write_through  # a terminal, or PYTHONUNBUFFERED
        sys.stdout = _FittedText(named, plain.encoding, line_buffering=at_once)
        sys.stdout.is_plain = is_ascii(environment)
    if isinstance(plain := sys.stderr, io.TextIOWrapper) and plain is sys.__stderr__:
        raw = io.BufferedWriter(io.FileIO(plain.fileno(), "wb", closefd=False))
        sys.stderr = _FittedText(raw, plain.encoding, line_buffering=True, write_through=plain.write_through)
        sys.stderr.is_plain = is_ascii(environment)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="sedd")


class _FittedText(io.TextIOWrapper):
    """Text of which what the encoding lacks is replaced line by line: a codec's error handler sees no space before."""

    is_plain = False
    """Whether signs of ours are ASCII though the encoding has them."""

    def write(self, text: str, /) -> int:
        super().write(fitted(with_plain_signs(text) if self.is_plain else text, self.encoding))
        return len(text)


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


def with_plain_signs(text: str) -> str:
    """The text with our tables, bars and curves in ASCII; a user's letters stay: a path in others is another path."""
    if text.isascii():
        return text
    text = _PAIRED.sub(lambda found: _pair(found[0]), text)
    return "".join(_letter(c) if ord(c) in _ASCII or _is_dots(c) else c for c in text)


def as_ascii(text: str) -> str:
    """The text in ASCII, as many columns wide as it was: accents go, what has no likeness is `?`."""
    return fitted(text, "ascii")


def fitted(text: str, encoding: str) -> str:
    """The text with only what the encoding has, as many columns wide as it was."""
    if _has(text, encoding):
        return text
    text = _PAIRED.sub(lambda found: found[0] if _has(found[0], encoding) else _pair(found[0]), text)
    return "".join(c if _has(c, encoding) else _letter(c) for c in text)


def _has(text: str, encoding: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _pair(found: str) -> str:
    sign = found.strip()
    return (_ALONE if found == sign else _PAIRS)[sign]


def _is_dots(c: str) -> bool:
    """Whether it is a piece of a curve."""
    return "\u2801" <= c <= "\u28ff"


def _letter(c: str) -> str:
    if _is_dots(c):
        return "*" if bin(ord(c) - 0x2800).count("1") > 2 else "."
    if unicodedata.combining(c):  # an accent of the letter before it, which has no width of its own
        return ""
    plain = _ASCII.get(ord(c), unicodedata.normalize("NFKD", c)[0])
    letter = chr(plain) if isinstance(plain, int) else plain
    letter = letter if letter.isascii() else "?"
    is_wide = unicodedata.east_asian_width(c) in ("W", "F")
    return letter.ljust(2, "?" if letter == "?" else " ") if is_wide else letter


def _replaced(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    return as_ascii(error.object[error.start : error.end]), error.end
