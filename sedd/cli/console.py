"""Where commands print: results on stdout, progress and logs on stderr."""

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


def print_json(value: Any) -> None:
    """One JSON document on stdout."""
    sys.stdout.write(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
