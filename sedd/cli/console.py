"""The two consoles: results go to stdout, progress and messages to stderr."""

import json
import sys
from typing import Any

from rich.console import Console


def out() -> Console:
    """Console for results."""
    return Console(highlight=False)


def err() -> Console:
    """Console for progress and remarks."""
    return Console(stderr=True, highlight=False)


def show(text: str, *, style: str | None = None) -> None:
    """A line on stdout as it is: paths may be longer than the terminal is wide, and hold brackets."""
    out().print(text, style=style, markup=False, soft_wrap=True)


def tell(text: str, *, style: str | None = None) -> None:
    """A line on stderr as it is, as `show`."""
    err().print(text, style=style, markup=False, soft_wrap=True)


def note(text: str) -> None:
    """What a user should know of an answer that is given all the same."""
    tell(f"note: {text}", style="yellow")


def tell_wait(text: str) -> None:
    """That something is waited for, and what Ctrl-C means then."""
    tell(f"{text}. Ctrl-C ends the waiting; repeated, the same command does what is left.")


def print_json(value: Any) -> None:
    """One JSON document on stdout. Raises: as `print_text`."""
    print_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def print_text(text: str) -> None:
    """The text on stdout, now. Raises: SeddError where stdout is a file on a full disk."""
    sys.stdout.flush()
    if (raw := getattr(sys.stdout, "buffer", None)) is not None:
        # Data, as FASTA and JSON are, is UTF-8 whatever the terminal shows.
        raw.write(text.encode("utf-8", "surrogateescape"))
    else:
        sys.stdout.write(text)
    sys.stdout.flush()
