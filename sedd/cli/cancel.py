"""`sedd cancel`: end runs for good."""

import datetime as dt
from typing import Annotated

import typer

from sedd.cli.for_each_run import for_each
from sedd.launch.cancel import cancel


def command(
    runs: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN...", help="Run folders, ids, job ids or names; a sweep is all its points."
        ),
    ],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document on stdout.")] = False,
) -> None:
    """End runs for good: they save a checkpoint, and nothing starts them again but `sedd requeue`.

    Example: sedd cancel quickstart
    """
    now = dt.datetime.now(dt.UTC)
    for_each(runs, lambda run: cancel([run], now=now)[0], word="cancelled", as_json=as_json)
