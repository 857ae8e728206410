"""Hints that name options of a command, as a job tells them: its user wrote keys of a spec."""

import contextlib
import re
from collections.abc import Iterator

from sedd.errors import SeddError

_NETWORK = {
    "the network is named first; proteins are an option's value, as --fasta": "{task}.network names one of these",
}
WORDED: dict[str, dict[str, str]] = {
    "data": {
        "--force replaces it; or choose another name after -o": "name another build.store, or remove what is there",
        "choose another name after -o": "name another build.store",
        "--label-number": "build.label_numbers",
    },
    "evaluate": _NETWORK,
    "sample": _NETWORK,
    "embed": _NETWORK,
    "score": _NETWORK
    | {
        "--fasta": "score.wild_types",
        "--offset": "score.offset",
        "--measured": "score.measured",
    },
}
"""By the spec's `task:`, what a hint has for the command line, and for a spec; longer texts come first."""


def as_keys(hint: str | None, task: str) -> str | None:
    """A hint with the keys of this task's spec in place of options."""
    if not hint or task not in WORDED:
        return hint
    worded = WORDED[task]
    found = "|".join(rf"{re.escape(text)}(?![\w-])" for text in worded)
    return re.sub(found, lambda match: worded[match[0]].format(task=task), hint)


@contextlib.contextmanager
def hints_name_keys(task: str) -> Iterator[None]:
    """Errors that are raised in this block have hints by `as_keys`."""
    try:
        yield
    except SeddError as e:
        e.hint = as_keys(e.hint, task)
        raise
