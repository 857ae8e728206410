"""The two consoles: results go to stdout, progress and messages to stderr."""

import json
import os
import sys
from typing import Any

from rich.console import Console

from sedd.errors import RunError


def out() -> Console:
    """Console for results."""
    return Console(highlight=False)


def err() -> Console:
    """Console for progress and remarks."""
    return Console(stderr=True, highlight=False)


def tell(text: str, *, style: str | None = None) -> None:
    """A line on stderr as it is: paths may be longer than the terminal is wide, and hold brackets."""
    err().print(text, style=style, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """What a user should know of an answer that is given all the same."""
    tell(f"note: {text}", style="yellow")


def print_json(value: Any) -> None:
    """One JSON document on stdout. Raises: as `print_text`."""
    print_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def print_text(text: str) -> None:
    """The text on stdout, now. Raises: RunError where stdout is a file on a full disk."""
    try:
        sys.stdout.flush()
        if (raw := getattr(sys.stdout, "buffer", None)) is not None:
            # Data, as FASTA and JSON are, is UTF-8 whatever the terminal shows.
            raw.write(text.encode("utf-8", "surrogateescape"))
        else:
            sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:
        raise  # the reader has seen enough
    except OSError as e:
        # What is left in the buffer would fail once more when Python ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise RunError(f"cannot write standard output: {e.strerror}") from e
