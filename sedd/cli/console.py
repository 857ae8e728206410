"""The two consoles: results go to stdout, progress and messages to stderr."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from sedd.errors import UsageError
from sedd.rundir.atomic import is_stdout, write_output


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


def write_text(path: Path | None, text: str) -> bool:
    """Write a text to the file that an option names, or to stdout where none is named, or `-`; whether to a file.

    Raises: SeddError where it cannot be written.
    """
    if path is None or is_stdout(path):
        print_text(text)
        return False
    write_output(path, text)
    return True


def put_table(path: Path | None, columns: Mapping[str, Sequence[Any]]) -> bool:
    """As `write_text`, for a table whose format is that of the file's name; on stdout it is CSV."""
    from sedd.inference.tables import csv_text, write_table

    if path is None or is_stdout(path):
        print_text(csv_text(columns))
        return False
    write_table(path, columns)
    return True


def require_one_on_stdout(outputs: Mapping[str, bool]) -> None:
    """Refuse two outputs on stdout, where they would mix. Raises: UsageError that names the options."""
    named = [name for name, is_there in outputs.items() if is_there]
    if len(named) > 1:
        raise UsageError(
            f"{' and '.join(named)} would be mixed on standard output", hint="name a file for one of them"
        )
