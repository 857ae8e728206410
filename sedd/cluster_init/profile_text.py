"""A proposed profile as YAML, each line below the reason for it. Pure."""

import datetime as dt
import textwrap
from collections.abc import Iterator, Sequence

from sedd.cluster_init.propose import Line

_WIDTH = 100


def profile_text(lines: Sequence[Line], *, cluster: str, now: dt.datetime) -> str:
    """The whole file; lines that are for the user to decide are comments."""
    head = (
        f"# {cluster or 'This cluster'} as SLURM shows it to this user; by `sedd cluster init`, {now:%Y-%m-%d}.",
        "# Read it, change what you know better, then: sedd cluster check THIS_FILE",
    )
    return "\n".join([*head, *(text for line in lines for text in _written(line)), ""])


def _written(line: Line) -> Iterator[str]:
    if line.reason:
        yield ""
        for part in textwrap.wrap(line.reason, _WIDTH - 2, break_long_words=False, break_on_hyphens=False):
            yield f"# {part}"
    yield line.yaml if line.is_active else f"# {line.yaml}"
